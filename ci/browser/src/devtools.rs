//! A browser that is driven by the [Chrome DevTools Protocol][protocol], over a WebSocket that
//! does not leave the machine.
//!
//! Of the protocol's several hundred methods ten are needed. Crates that have all of them generate
//! their code from its whole description, which takes longer to build than all that is done with
//! it here; so calls are JSON.
//!
//! [protocol]: https://chromedevtools.github.io/devtools-protocol/

use std::{
    io::{self, BufRead, BufReader},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use serde_json::{Value, json};
use tempfile::TempDir;
use tungstenite::{Message, WebSocket};

use crate::view::View;

/// Longest wait for one answer, and for one page.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a browser may take to end by itself.
const FAREWELL: Duration = Duration::from_secs(5);
/// What a browser says on stderr before the address of its protocol.
const LISTENING: &str = "DevTools listening on ws://";

/// A browser that runs; it ends with this value.
pub struct Browser {
    process: Child,
    socket: WebSocket<TcpStream>,
    /// Nothing of the user's own is read, and nothing left behind.
    _profile: TempDir,
    calls: u64,
    /// What the browser told unasked, oldest first.
    events: Vec<Value>,
}

/// A tab; it closes with [`Tab::close`].
pub struct Tab<'a> {
    browser: &'a mut Browser,
    target: String,
    session: String,
}

impl Browser {
    /// Starts a browser that resolves no name, so that nothing can leave the machine.
    ///
    /// * `sandbox`: false for root, who may not have one
    ///
    /// # Errors
    /// If it does not start, or does not say where it listens.
    pub fn start(program: &Path, sandbox: bool) -> anyhow::Result<Self> {
        let profile = tempfile::tempdir().context("a folder for the browser")?;
        let mut command = Command::new(program);
        command
            .args(["--headless", "--disable-gpu", "--hide-scrollbars"])
            .args(["--no-first-run", "--disable-background-networking"])
            .args(["--remote-debugging-port=0", "about:blank"])
            .arg("--host-resolver-rules=MAP * ~NOTFOUND")
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        if !sandbox {
            command.arg("--no-sandbox");
        }
        let mut process =
            (command.spawn()).with_context(|| format!("start {}", program.display()))?;
        let connected = connect(&mut process);
        match connected.with_context(|| format!("speak with {}", program.display())) {
            Ok(socket) => Ok(Self {
                process,
                socket,
                _profile: profile,
                calls: 0,
                events: Vec::new(),
            }),
            Err(error) => {
                end(&mut process);
                Err(error)
            }
        }
    }

    /// Opens a tab.
    ///
    /// # Errors
    /// If the browser fails.
    pub fn tab(&mut self) -> anyhow::Result<Tab<'_>> {
        let target = self.call(None, "Target.createTarget", json!({ "url": "about:blank" }))?;
        let target = text(&target, "targetId")?;
        let attach = json!({ "targetId": target, "flatten": true });
        let session = text(
            &self.call(None, "Target.attachToTarget", attach)?,
            "sessionId",
        )?;
        let mut tab = Tab {
            browser: self,
            target,
            session,
        };
        tab.call("Page.enable", json!({}))?;
        tab.call("Network.enable", json!({}))?;
        Ok(tab)
    }

    /// Calls a method of the browser, or of the session of a tab.
    fn call(
        &mut self,
        session: Option<&str>,
        method: &str,
        params: Value,
    ) -> anyhow::Result<Value> {
        self.calls += 1;
        let id = self.calls;
        let mut call = json!({ "id": id, "method": method, "params": params });
        if let Some(session) = session {
            call["sessionId"] = session.into();
        }
        (self.socket.send(Message::text(call.to_string()))).with_context(|| method.to_owned())?;
        loop {
            let mut message = self.next().with_context(|| method.to_owned())?;
            if message["id"] != id {
                self.events.push(message);
            } else if let Some(error) = message.get("error") {
                bail!("{method}: {error}");
            } else {
                return Ok(message["result"].take());
            }
        }
    }

    /// The next message.
    fn next(&mut self) -> anyhow::Result<Value> {
        loop {
            match self.socket.read() {
                Ok(Message::Text(text)) => {
                    return serde_json::from_str(text.as_str()).context("a message of the browser");
                }
                Ok(Message::Close(_)) => bail!("the browser ended"),
                Ok(_) => {}
                Err(tungstenite::Error::Io(error)) if is_late(&error) => {
                    bail!("no word from the browser in {} s", PATIENCE.as_secs())
                }
                Err(error) => return Err(error).context("the browser ended"),
            }
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Asked to, it ends its own processes, too. Whether it hears it shows in that it ends.
        let close = json!({ "id": self.calls + 1, "method": "Browser.close" });
        let _ = self.socket.send(Message::text(close.to_string()));
        end(&mut self.process);
    }
}

impl Tab<'_> {
    /// Says the size of the window, and whether it is a phone's.
    ///
    /// # Errors
    /// If the browser fails.
    pub fn resize(&mut self, view: &View) -> anyhow::Result<()> {
        let metrics = json!({
            "width": view.width,
            "height": view.height,
            "deviceScaleFactor": 1,
            "mobile": view.is_mobile(),
        });
        self.call("Emulation.setDeviceMetricsOverride", metrics)?;
        Ok(())
    }

    /// Runs a script in each page before its own.
    ///
    /// # Errors
    /// If the browser fails.
    pub fn run_first(&mut self, script: &str) -> anyhow::Result<()> {
        let source = json!({ "source": script });
        self.call("Page.addScriptToEvaluateOnNewDocument", source)?;
        Ok(())
    }

    /// Opens an address and waits until all of it is there.
    ///
    /// # Errors
    /// If it cannot be opened, or takes too long.
    pub fn open(&mut self, url: &str) -> anyhow::Result<()> {
        self.browser.events.clear();
        let answer = self.call("Page.navigate", json!({ "url": url }))?;
        if let Some(error) = answer["errorText"].as_str() {
            bail!("{url}: {error}");
        }
        let deadline = Instant::now() + PATIENCE;
        while !self.told("Page.loadEventFired").any(|_| true) {
            if Instant::now() > deadline {
                bail!("{url} was not there after {} s", PATIENCE.as_secs());
            }
            let message = self.browser.next()?;
            self.browser.events.push(message);
        }
        Ok(())
    }

    /// The addresses that this tab asked for since [`Self::open`] was called.
    pub fn requests(&self) -> Vec<String> {
        self.told("Network.requestWillBeSent")
            .filter_map(|event| event["request"]["url"].as_str())
            .map(str::to_owned)
            .collect()
    }

    /// Runs a script in the page; returns its value, of a promise the one that it is kept with.
    ///
    /// # Errors
    /// If it throws.
    pub fn evaluate(&mut self, script: &str) -> anyhow::Result<Value> {
        let mut answer = self.call(
            "Runtime.evaluate",
            json!({ "expression": script, "awaitPromise": true, "returnByValue": true }),
        )?;
        if let Some(thrown) = answer.get("exceptionDetails") {
            bail!("a script failed: {thrown}");
        }
        Ok(answer["result"]["value"].take())
    }

    /// Closes it.
    ///
    /// # Errors
    /// If the browser fails.
    pub fn close(self) -> anyhow::Result<()> {
        let target = json!({ "targetId": self.target });
        self.browser.call(None, "Target.closeTarget", target)?;
        Ok(())
    }

    fn call(&mut self, method: &str, params: Value) -> anyhow::Result<Value> {
        self.browser.call(Some(&self.session), method, params)
    }

    /// The parameters of the events of this tab that have this name.
    fn told(&self, method: &str) -> impl Iterator<Item = &Value> {
        let ours =
            |event: &&Value| event["sessionId"] == *self.session && event["method"] == *method;
        (self.browser.events.iter())
            .filter(ours)
            .map(|event| &event["params"])
    }
}

/// Waits until the browser says where it listens, and connects.
fn connect(process: &mut Child) -> anyhow::Result<WebSocket<TcpStream>> {
    let stderr = process.stderr.take().context("the browser's stderr")?;
    let (sender, lines) = mpsc::channel();
    // It goes on reading to the end: a full pipe would stop the browser.
    thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
    let deadline = Instant::now() + PATIENCE;
    let mut last = String::from("nothing");
    let address = loop {
        match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => match line.strip_prefix(LISTENING) {
                Some(address) => break address.to_owned(),
                None => last = line,
            },
            Err(_) => bail!("it does not say where it listens; the last it said: {last}"),
        }
    };
    let (host, _) = address.split_once('/').context("a path in its address")?;
    let stream = TcpStream::connect(host).with_context(|| format!("connect to {host}"))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let (socket, _) = tungstenite::client(format!("ws://{address}"), stream)
        .map_err(|error| anyhow::anyhow!("connect to {address}: {error}"))?;
    Ok(socket)
}

/// Waits for its end, and ends it by force if that takes long.
fn end(process: &mut Child) {
    let deadline = Instant::now() + FAREWELL;
    while let Ok(None) = process.try_wait() {
        if Instant::now() > deadline {
            // It may have ended by itself meanwhile.
            let _ = process.kill();
            let _ = process.wait();
            return;
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// A field that must be text.
fn text(answer: &Value, field: &str) -> anyhow::Result<String> {
    let value = answer[field].as_str();
    Ok(value
        .with_context(|| format!("the browser's answer has no {field}: {answer}"))?
        .to_owned())
}

/// Whether a read ended because its time was over.
fn is_late(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}
