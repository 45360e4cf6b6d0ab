// Makes pages live. A page works without this: it is fetched anew when the server says that something in it changed, and what
// differs is changed in place, so that focus, ticks and open parts stay as they are.
"use strict";

(() => {
  const body = document.body;
  // The path that the site is under, if any.
  const root = new URL(document.currentScript.src).pathname.replace(/\/assets\/[^/]*\/[^/]*$/, "");

  // --- The same page again: parts marked data-live are changed to what the server now draws. ---

  const keyOf = (node) => (node.nodeType === Node.ELEMENT_NODE ? node.id || null : null);
  const alike = (a, b) => a.nodeType === b.nodeType && a.nodeName === b.nodeName && keyOf(a) === keyOf(b);

  function change(old, fresh) {
    if (old.nodeType !== Node.ELEMENT_NODE) {
      if (old.nodeValue !== fresh.nodeValue) old.nodeValue = fresh.nodeValue;
      return;
    }
    if (old.isEqualNode(fresh)) return;
    for (const { name } of [...old.attributes]) {
      // What the visitor opened or is asked stays open.
      if (!fresh.hasAttribute(name) && name !== "open") old.removeAttribute(name);
    }
    for (const { name, value } of fresh.attributes) {
      if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    }
    if (old.matches("input, textarea, select")) return;
    children(old, fresh);
  }

  function children(old, fresh) {
    const known = new Map();
    for (const child of old.children) if (child.id) known.set(child.id, child);
    let at = old.firstChild;
    for (const wanted of [...fresh.childNodes]) {
      const kept = keyOf(wanted) && known.get(wanted.id);
      if (kept && kept !== at) {
        old.insertBefore(kept, at);
        change(kept, wanted);
      } else if (at && alike(at, wanted)) {
        const next = at.nextSibling;
        change(at, wanted);
        at = next;
      } else {
        old.insertBefore(document.importNode(wanted, true), at);
      }
    }
    while (at) {
      const next = at.nextSibling;
      at.remove();
      at = next;
    }
  }

  // What the server has to tell once is for the visitor, not for us.
  const BY_SCRIPT = { "X-Otaru-Script": "1" };
  let under = null;

  async function fetchPage(url) {
    if (under) under.abort();
    const mine = (under = new AbortController());
    // What is there at once needs no word.
    const slow = setTimeout(() => body.classList.add("loading"), 300);
    try {
      const response = await fetch(url, { signal: mine.signal, headers: BY_SCRIPT });
      if (response.redirected && new URL(response.url).pathname === `${root}/login`) {
        location.reload();
        return null;
      }
      // So a proxy says that the server is away.
      if (response.status >= 502 && response.status <= 504) throw new Error(response.statusText);
      if (!response.ok && response.status !== 422) return null;
      return new DOMParser().parseFromString(await response.text(), "text/html");
    } finally {
      clearTimeout(slow);
      if (under === mine) {
        under = null;
        body.classList.remove("loading");
      }
    }
  }

  function take(page) {
    for (const part of document.querySelectorAll("[data-live]")) {
      const fresh = page.getElementById(part.id);
      if (fresh) change(part, fresh);
    }
    body.dataset.since = page.body.dataset.since;
    afterChange();
  }

  let again = null;
  let looked = Date.now();

  async function refresh(url = location.href) {
    clearTimeout(again);
    looked = Date.now();
    try {
      const page = await fetchPage(url);
      if (!page) return false;
      take(page);
      if (!source || source.readyState === EventSource.OPEN) lost(false);
      return true;
    } catch (error) {
      if (error.name === "AbortError") return false;
      lost(true);
      again = setTimeout(refresh, AGAIN);
      return false;
    }
  }

  // --- Being told. ---

  const AGAIN = 3000;
  // A proxy may hold back what is told, and nobody can tell that from quiet.
  const QUIET = 10000;

  const banner = document.getElementById("lost");
  const lost = (is) => banner && (banner.hidden = !is);
  const of = body.dataset.of;
  let source = null;

  // Browsers keep few connections to a server open, so only a page that somebody looks at listens. What happened since it was
  // drawn, or while nothing was heard, is told at once.
  function listen() {
    if (!of || source || document.hidden) return;
    const mine = (source = new EventSource(`${root}/live?of=${encodeURIComponent(of)}&since=${body.dataset.since}`));
    mine.addEventListener("changed", () => refresh());
    mine.addEventListener("open", () => lost(false));
    mine.addEventListener("error", () => {
      lost(true);
      // What was missed is on the page; and a server that wants a login says so there.
      clearTimeout(again);
      again = setTimeout(refresh, mine.readyState === EventSource.CLOSED ? AGAIN : 0);
      if (mine.readyState !== EventSource.CLOSED) return;
      // A server that refuses is not asked again by the browser itself.
      rest();
      setTimeout(listen, AGAIN);
    });
  }

  function rest() {
    if (source) source.close();
    source = null;
  }

  document.addEventListener("visibilitychange", () => (document.hidden ? rest() : listen()));
  addEventListener("pagehide", rest);
  addEventListener("pageshow", listen);
  setInterval(() => {
    if (of && !document.hidden && Date.now() - looked > QUIET) refresh();
  }, 1000);

  // --- Moments grow old. ---

  const UNITS = [[172800, 86400, "days"], [7200, 3600, "h"], [120, 60, "min"], [0, 1, "s"]];

  function span(seconds) {
    const [, unit, name] = UNITS.find(([from]) => seconds >= from);
    return `${Math.floor(seconds / unit)} ${name}`;
  }

  // The server's clock counts, whatever this machine's says.
  let ahead = 0;

  function age() {
    const now = Date.now() + ahead;
    for (const time of document.querySelectorAll("time[datetime]")) {
      const seconds = (now - Date.parse(time.dateTime)) / 1000;
      const text = seconds < -1 ? `in ${span(-seconds)}` : seconds < 5 ? "now" : `${span(seconds)} ago`;
      if (time.textContent !== text) time.textContent = text;
    }
  }

  // --- Ticks. ---

  function ticks() {
    const all = document.querySelector("[data-all]");
    if (!all) return;
    const boxes = [...document.querySelectorAll('input[name="device"][type="checkbox"]')];
    all.hidden = boxes.length === 0;
    const ticked = boxes.filter((box) => box.checked).length;
    all.checked = ticked > 0 && ticked === boxes.length;
    all.indeterminate = ticked > 0 && ticked < boxes.length;
  }

  document.addEventListener("change", (event) => {
    if (event.target.matches("[data-all]")) {
      for (const box of document.querySelectorAll('input[name="device"][type="checkbox"]')) box.checked = event.target.checked;
    }
    if (event.target.matches('input[type="checkbox"]')) ticks();
  });

  function afterChange() {
    age();
    ticks();
  }

  // --- A search that answers while one types. ---

  function later(wait, what) {
    let timer;
    return () => {
      clearTimeout(timer);
      timer = setTimeout(what, wait);
    };
  }

  const query = (form) => {
    const filled = [...new FormData(form)].filter(([, text]) => typeof text === "string" && text !== "");
    return new URLSearchParams(filled).toString();
  };

  for (const form of document.querySelectorAll("form[data-search]")) {
    const search = later(200, () => {
      const url = `${form.getAttribute("action")}?${query(form)}`;
      history.replaceState(null, "", url);
      refresh(url);
    });
    form.addEventListener("input", search);
  }

  // --- A plan that tells who it is for while one writes it. ---

  const plan = document.querySelector("form[data-plan]");
  if (plan) {
    const usual = plan.elements.usual;
    const look = later(250, async () => {
      // What is left empty is left empty on purpose, so all fields are sent.
      const fields = new URLSearchParams([...new FormData(plan)].filter(([name]) => name !== "do"));
      try {
        const page = await fetchPage(`${root}/rollouts/new?${fields}`);
        if (!page) {
          const waits = plan.querySelector("[data-later]");
          if (waits) waits.textContent = "There is no preview: the server did not answer. Reload the page to try again.";
          return;
        }
        take(page);
        const name = page.querySelector('[name="name"]');
        if (name && plan.elements.name.value === usual.value) {
          plan.elements.name.value = usual.value = name.value;
        }
      } catch (error) {
        if (error.name !== "AbortError") lost(true);
      }
    });
    plan.addEventListener("input", look);
    const waits = plan.querySelector("[data-later]");
    if (waits) {
      waits.textContent = "Counting the devices takes a moment.";
      look();
    }
    const button = plan.querySelector("[data-look]");
    if (button) button.hidden = true;
  }

  // --- A file that is dropped. ---

  const drop = document.querySelector("form[data-drop]");
  if (drop) {
    const input = drop.elements.file;
    const bar = drop.querySelector("progress");
    const why = drop.querySelector(".why");
    // Our own pages say why; what stands between the server and here has only a number.
    const reason = ({ status, responseText }) => {
      const text = new DOMParser().parseFromString(responseText, "text/html").querySelector("main p:not(.code):not([hidden])");
      if (text) return text.textContent;
      if (status === 413) return "A proxy in front of the server rejects files this large (413). Raise its limit: client_max_body_size in nginx.";
      return `Not uploaded: a proxy in front of the server answered ${status}. Check that the server runs, then try again.`;
    };
    const fail = (text) => {
      bar.hidden = true;
      why.hidden = false;
      why.textContent = text;
    };
    const send = () => {
      if (!input.files.length) return;
      if (input.files[0].size > Number(drop.dataset.drop)) return fail("This file is too large to be firmware.");
      const request = new XMLHttpRequest();
      request.open("POST", drop.getAttribute("action"));
      for (const [name, value] of Object.entries(BY_SCRIPT)) request.setRequestHeader(name, value);
      request.upload.addEventListener("progress", (event) => {
        if (event.lengthComputable) bar.value = (100 * event.loaded) / event.total;
      });
      request.addEventListener("load", () => {
        if (request.status < 400) return location.assign(request.responseURL);
        fail(reason(request));
      });
      request.addEventListener("error", () => fail("The upload was interrupted. Check that the server runs, then try again."));
      bar.hidden = false;
      why.hidden = true;
      request.send(new FormData(drop));
    };
    drop.addEventListener("submit", (event) => {
      event.preventDefault();
      send();
    });
    input.addEventListener("change", send);
    for (const name of ["dragenter", "dragover"]) {
      document.addEventListener(name, (event) => {
        if (![...event.dataTransfer.types].includes("Files")) return;
        event.preventDefault();
        drop.classList.add("over");
      });
    }
    document.addEventListener("dragleave", (event) => {
      if (!event.relatedTarget) drop.classList.remove("over");
    });
    document.addEventListener("drop", (event) => {
      event.preventDefault();
      drop.classList.remove("over");
      if (!event.dataTransfer.files.length) return;
      input.files = event.dataTransfer.files;
      send();
    });
  }

  // --- What may be copied. ---

  for (const button of document.querySelectorAll("[data-copy]")) {
    // Browsers have a clipboard for pages only over TLS and on this machine.
    if (!navigator.clipboard) continue;
    button.hidden = false;
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
      button.textContent = "Copied";
    });
  }

  const served = Number(body.dataset.now);
  if (served) ahead = served - Date.now();
  afterChange();
  setInterval(age, 1000);
  listen();
})();
