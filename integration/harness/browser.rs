//! A headless Chromium, Debian's, driven by its `DevTools` protocol over two pipes; and a server on loopback for the page that it shows,
//! which counts what else the page asks for.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

/// How long an answer may take on a busy machine. Nothing waits for it but a browser that hangs.
const PATIENCE: Duration = Duration::from_mins(2);

/// What it is called with. Without the sandbox root can start it too.
const FLAGS: [&str; 9] = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--remote-debugging-pipe",
    "about:blank",
];

/// The policy of a frame for artifacts: scripts of the page run, and it has no origin.
const POLICY: &str =
    "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:";

/// A page on loopback.
pub(crate) struct Served {
    pub(crate) url: String,
    /// The paths that were asked for.
    asked: Arc<Mutex<Vec<String>>>,
}

/// Serves one page, as the viewer of artifacts shows it.
pub(crate) fn serve(page: String) -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/report.html", listener.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let told = asked.clone();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            let mut head = Vec::new();
            let mut lines = BufReader::new(&mut connection);
            while !head.ends_with(b"\r\n\r\n") && lines.read_until(b'\n', &mut head).is_ok_and(|read| read > 0) {}
            let head = String::from_utf8_lossy(&head).into_owned();
            // A connection that a browser only keeps ready.
            let Some(path) = head.split(' ').nth(1) else { continue };
            told.lock().unwrap().push(path.to_owned());
            let length = page.len();
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {length}\r\nContent-Security-Policy: {POLICY}\r\nConnection: close\r\n\r\n"
            );
            let _ = connection.write_all(&[head.as_bytes(), page.as_bytes()].concat());
        }
    });
    Served { url, asked }
}

impl Served {
    /// The paths that were asked for since the last time.
    pub(crate) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

/// A browser with one page.
pub(crate) struct Browser {
    child: Child,
    out: ChildStdin,
    answers: Receiver<Value>,
    session: Option<String>,
    last: u64,
    /// What the page has told since the last time: method and parameters.
    events: Vec<(String, Value)>,
    _profile: TempDir,
}

impl Browser {
    /// Starts it. `None` where it is not installed.
    pub(crate) fn start() -> Option<Self> {
        if !super::installed("chromium") {
            return None;
        }
        let profile = TempDir::with_prefix("image-worker-test-").unwrap();
        // It reads from 3 and writes to 4.
        let script = r#"exec chromium "$@" 3<&0 4>&1 </dev/null >/dev/null 2>&1"#;
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh"]).arg(format!("--user-data-dir={}", profile.path().display())).args(FLAGS);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (out, from) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (sender, answers) = channel();
        std::thread::spawn(move || {
            for message in BufReader::new(from).split(0) {
                let Ok(message) = message else { return };
                if sender.send(serde_json::from_slice(&message).unwrap()).is_err() {
                    return;
                }
            }
        });
        let (session, last, events) = (None, 0, Vec::new());
        let mut browser = Self { child, out, answers, session, last, events, _profile: profile };
        let target = browser.call("Target.createTarget", &json!({ "url": "about:blank" }));
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let attached = browser.call("Target.attachToTarget", &attach);
        browser.session = Some(attached["sessionId"].as_str().unwrap().to_owned());
        for domain in ["Page", "Runtime", "Log", "Network"] {
            browser.call(&format!("{domain}.enable"), &json!({}));
        }
        Some(browser)
    }

    /// Calls a method of the protocol.
    pub(crate) fn call(&mut self, method: &str, parameters: &Value) -> Value {
        self.last += 1;
        let mut message = json!({ "id": self.last, "method": method, "params": parameters });
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        self.out.write_all(format!("{message}\0").as_bytes()).unwrap();
        loop {
            let answer = self.next();
            if answer["id"] == json!(self.last) {
                assert_eq!(answer["error"], Value::Null, "{method}");
                return answer["result"].clone();
            }
            self.note(&answer);
        }
    }

    fn next(&mut self) -> Value {
        self.answers.recv_timeout(PATIENCE).expect("chromium answers")
    }

    fn note(&mut self, event: &Value) {
        let Some(method) = event["method"].as_str() else { return };
        self.events.push((method.to_owned(), event["params"].clone()));
    }

    /// Opens a page in a window of this width, dark or light, and waits until it is there.
    pub(crate) fn open(&mut self, url: &str, width: u32, is_dark: bool) {
        let metrics = json!({ "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false });
        self.call("Emulation.setDeviceMetricsOverride", &metrics);
        let scheme = json!({ "name": "prefers-color-scheme", "value": if is_dark { "dark" } else { "light" } });
        self.call("Emulation.setEmulatedMedia", &json!({ "features": [scheme] }));
        // So that it is a new page also where only the fragment is another.
        self.events.clear();
        self.call("Page.navigate", &json!({ "url": "about:blank" }));
        self.wait_for("Page.loadEventFired");
        self.events.clear();
        self.call("Page.navigate", &json!({ "url": url }));
        self.wait_for("Page.loadEventFired");
    }

    fn wait_for(&mut self, wanted: &str) {
        while !self.events.iter().any(|(method, _)| method == wanted) {
            let event = self.next();
            self.note(&event);
        }
    }

    /// What an expression is in the page.
    pub(crate) fn value(&mut self, expression: &str) -> Value {
        let parameters = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let evaluated = self.call("Runtime.evaluate", &parameters);
        assert_eq!(evaluated["exceptionDetails"], Value::Null, "{expression}");
        evaluated["result"]["value"].clone()
    }

    /// Presses a key, as somebody at the keyboard does.
    pub(crate) fn press(&mut self, key: &str, code: u32) {
        let text = if key == "Enter" { "\r" } else { "" };
        for kind in ["keyDown", "keyUp"] {
            let text = if kind == "keyDown" { text } else { "" };
            let parameters =
                json!({ "type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code, "text": text });
            self.call("Input.dispatchKeyEvent", &parameters);
        }
    }

    /// The URLs that the page has asked for since it was opened.
    pub(crate) fn requests(&self) -> Vec<String> {
        let asked = self.events.iter().filter(|(method, _)| method == "Network.requestWillBeSent");
        asked.map(|(_, event)| event["request"]["url"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// What the console has of it: errors, warnings, exceptions, and what the policy has refused.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let all = ["Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded"];
        let said = self.events.iter().filter(|(method, _)| all.contains(&method.as_str()));
        said.map(|(method, event)| format!("{method}: {event}")).collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Chromium ends, with all its processes, when nobody is at the pipe any more.
        let _ = self.out.write_all(br#"{"id":0,"method":"Browser.close"}"#);
        let _ = self.out.write_all(&[0]);
        let until = std::time::Instant::now() + Duration::from_secs(10);
        while std::time::Instant::now() < until && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
