//! A headless Chromium, driven over the Chrome DevTools Protocol: it clicks where a mouse would and hears every complaint.

use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use otaru_testing::{Program, eventually_or, program};
use serde_json::{Value, json};
use tempfile::TempDir;
use tungstenite::stream::MaybeTlsStream;
use tungstenite::{Message, WebSocket};

/// Longest that something may take that nothing has to be done for.
const LIMIT: Duration = Duration::from_secs(60);

/// A browser with one page.
pub(crate) struct Browser {
    socket: WebSocket<MaybeTlsStream<TcpStream>>,
    session: Option<String>,
    sent: u64,
    complaints: Vec<String>,
    _program: Program,
    _profile: TempDir,
}

/// Look of a page: light or dark, desktop or phone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    Light,
    Dark,
    Phone,
}

impl Look {
    pub(crate) const ALL: [Self; 3] = [Self::Light, Self::Dark, Self::Phone];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Light => "light",
            Self::Dark => "dark",
            Self::Phone => "phone",
        }
    }
}

impl Browser {
    pub(crate) fn start() -> Self {
        let profile = tempfile::tempdir().unwrap();
        let mut command = program("chromium");
        // In a container it is root, and the network beyond this machine is nobody's business here.
        command.args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]);
        command.args(["--disable-background-networking", "--disable-component-update", "--disable-sync"]);
        command.args(["--hide-scrollbars", "--force-color-profile=srgb", "--remote-debugging-port=0"]);
        command.arg(format!("--user-data-dir={}", profile.path().display())).arg("about:blank");
        let chromium = Program::start(command);
        let line = chromium.says("DevTools listening on ");
        let address = line.split("DevTools listening on ").nth(1).unwrap().trim();
        let (socket, _) = tungstenite::connect(address).unwrap();
        let mut browser = Self {
            socket,
            session: None,
            sent: 0,
            complaints: Vec::new(),
            _program: chromium,
            _profile: profile,
        };
        let target = browser.call("Target.createTarget", json!({"url": "about:blank"}));
        let target = json!({"targetId": target["targetId"], "flatten": true});
        let attached = browser.call("Target.attachToTarget", target);
        browser.session = Some(attached["sessionId"].as_str().unwrap().to_owned());
        for domain in ["Page", "Runtime", "Log", "DOM"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        // Somebody looks at it; a page in the background rests.
        browser.call("Page.bringToFront", json!({}));
        browser.call("Emulation.setFocusEmulationEnabled", json!({"enabled": true}));
        browser.looks(Look::Light);
        browser
    }

    /// Sends a command and gives back its result.
    #[track_caller]
    pub(crate) fn call(&mut self, method: &str, params: Value) -> Value {
        self.ask(method, params).unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    /// Calls a method that may fail.
    fn ask(&mut self, method: &str, params: Value) -> Result<Value, Value> {
        self.sent += 1;
        let mut command = json!({"id": self.sent, "method": method, "params": params});
        if let Some(session) = &self.session {
            command["sessionId"] = json!(session);
        }
        self.socket.send(Message::text(command.to_string())).unwrap();
        loop {
            let Message::Text(text) = self.socket.read().unwrap() else { continue };
            let mut message: Value = serde_json::from_str(&text).unwrap();
            if message["id"] == self.sent {
                let error = message["error"].take();
                return if error.is_null() { Ok(message["result"].take()) } else { Err(error) };
            }
            self.hear(&message);
        }
    }

    fn hear(&mut self, event: &Value) {
        let params = &event["params"];
        match event["method"].as_str() {
            Some("Runtime.exceptionThrown") => self.complaints.push(params["exceptionDetails"].to_string()),
            Some("Runtime.consoleAPICalled")
                if matches!(params["type"].as_str(), Some("error" | "warning" | "assert")) =>
            {
                self.complaints.push(params["args"].to_string());
            }
            Some("Log.entryAdded")
                if matches!(params["entry"]["level"].as_str(), Some("error" | "warning")) =>
            {
                self.complaints.push(params["entry"].to_string());
            }
            _ => {}
        }
    }

    /// Returns the complaints of the browser since it was last asked.
    pub(crate) fn complaints(&mut self) -> Vec<String> {
        // Whatever it has to say comes before the answer.
        self.eval("0");
        std::mem::take(&mut self.complaints)
    }

    /// The value of an expression in the page.
    #[track_caller]
    pub(crate) fn eval(&mut self, expression: &str) -> Value {
        let params = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let mut result = self.call("Runtime.evaluate", params);
        assert!(result["exceptionDetails"].is_null(), "{expression}: {}", result["exceptionDetails"]);
        result["result"]["value"].take()
    }

    /// Waits until an expression is true.
    #[track_caller]
    pub(crate) fn wait(&mut self, expression: &str) {
        let found = eventually_or(LIMIT, || {
            // A page that is on its way out has no answer.
            let params = json!({"expression": format!("!!({expression})"), "returnByValue": true});
            let result = self.ask("Runtime.evaluate", params).unwrap_or_default();
            (result["result"]["value"] == true).then_some(())
        });
        if found.is_none() {
            panic!("waited for {expression}, but the page has:\n{}", self.text());
        }
    }

    /// Waits until the page has this text.
    #[track_caller]
    pub(crate) fn sees(&mut self, text: &str) {
        self.wait(&format!("document.body.innerText.includes({})", json!(text)));
    }

    /// The page's text.
    pub(crate) fn text(&mut self) -> String {
        self.eval("document.body.innerText").as_str().unwrap_or_default().to_owned()
    }

    /// Opens an address and waits until the page is there, whole.
    #[track_caller]
    pub(crate) fn open(&mut self, url: &str) {
        self.leaving(|browser| {
            browser.call("Page.navigate", json!({"url": url}));
        });
    }

    /// Does something that leads to another page, and waits until that is there.
    #[track_caller]
    pub(crate) fn leaving(&mut self, act: impl FnOnce(&mut Self)) {
        self.eval("window.leaving = true");
        act(self);
        self.wait("window.leaving === undefined && document.readyState === 'complete'");
    }

    /// Returns the middle of an element, once it can be clicked; `element` is an expression.
    #[track_caller]
    fn place(&mut self, element: &str) -> (f64, f64) {
        let script = format!(
            "(() => {{ const e = {element}; if (!e) return null; e.scrollIntoView({{block: 'center', behavior: 'instant'}});
               const r = e.getBoundingClientRect(); const x = r.x + r.width / 2, y = r.y + r.height / 2;
               const top = document.elementFromPoint(x, y);
               return top && (e.contains(top) || top.contains(e)) && !e.disabled ? [x, y] : null; }})()"
        );
        let found = eventually_or(LIMIT, || {
            let at = self.eval(&script);
            Some((at[0].as_f64()?, at[1].as_f64()?))
        });
        found.unwrap_or_else(|| panic!("nothing to click at {element}, but the page has:\n{}", self.text()))
    }

    /// Clicks with the mouse on what an expression means.
    #[track_caller]
    pub(crate) fn click_on(&mut self, element: &str) {
        let (x, y) = self.place(element);
        for kind in ["mouseMoved", "mousePressed", "mouseReleased"] {
            let params = json!({"type": kind, "x": x, "y": y, "button": "left", "clickCount": 1});
            self.call("Input.dispatchMouseEvent", params);
        }
    }

    /// Clicks on a link or button with this text.
    #[track_caller]
    pub(crate) fn click(&mut self, text: &str) {
        let element = format!(
            "[...document.querySelectorAll('a, button, summary')].find(e => e.innerText.trim() === {} && e.checkVisibility())",
            json!(text)
        );
        self.click_on(&element);
    }

    /// Clicks on a link or button with this text, which leads to another page.
    #[track_caller]
    pub(crate) fn follow(&mut self, text: &str) {
        self.leaving(|browser| browser.click(text));
    }

    /// Clicks into a field and writes, in place of what it has.
    #[track_caller]
    pub(crate) fn fill(&mut self, selector: &str, text: &str) {
        let element = format!("document.querySelector({})", json!(selector));
        self.click_on(&element);
        self.eval(&format!("{element}.select()"));
        if text.is_empty() {
            for kind in ["keyDown", "keyUp"] {
                self.call(
                    "Input.dispatchKeyEvent",
                    json!({"type": kind, "key": "Delete", "windowsVirtualKeyCode": 46}),
                );
            }
        } else {
            self.call("Input.insertText", json!({"text": text}));
        }
    }

    /// Drops a file from elsewhere onto the page.
    pub(crate) fn drop_file(&mut self, file: &str) {
        let data = json!({"items": [], "files": [file], "dragOperationsMask": 1});
        for kind in ["dragEnter", "dragOver", "drop"] {
            self.call("Input.dispatchDragEvent", json!({"type": kind, "x": 400, "y": 300, "data": data}));
        }
    }

    /// Chooses a file in a field.
    pub(crate) fn choose_file(&mut self, selector: &str, file: &str) {
        let root = self.call("DOM.getDocument", json!({}));
        let found =
            self.call("DOM.querySelector", json!({"nodeId": root["root"]["nodeId"], "selector": selector}));
        self.call("DOM.setFileInputFiles", json!({"nodeId": found["nodeId"], "files": [file]}));
    }

    /// Sets the look of pages from now on.
    pub(crate) fn looks(&mut self, look: Look) {
        let (width, height, mobile) = if look == Look::Phone { (360, 780, true) } else { (1280, 860, false) };
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile});
        self.call("Emulation.setDeviceMetricsOverride", size);
        let scheme = if look == Look::Dark { "dark" } else { "light" };
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        self.call("Emulation.setEmulatedMedia", json!({"features": features}));
    }

    /// Whether pages may run scripts.
    pub(crate) fn scripts(&mut self, may: bool) {
        self.call("Emulation.setScriptExecutionDisabled", json!({"value": !may}));
    }

    /// Takes a picture of what is to be seen; of all the page, however long, but for what nobody would scroll to.
    pub(crate) fn picture(&mut self, file: &Path) {
        let height = self.eval("Math.min(document.documentElement.scrollHeight, 2400)");
        let width = self.eval("innerWidth");
        let clip = json!({"x": 0, "y": 0, "width": width, "height": height, "scale": 1});
        let params = json!({"format": "png", "captureBeyondViewport": true, "clip": clip});
        let picture = self.call("Page.captureScreenshot", params);
        let bytes =
            base64::engine::general_purpose::STANDARD.decode(picture["data"].as_str().unwrap()).unwrap();
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, bytes).unwrap();
    }
}
