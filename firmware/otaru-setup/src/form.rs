//! What the browser sends from the set-up page.
