//! A tiny web server that gives recorded answers, and remembers what it was asked.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::Value;

/// Requests as they came: method and path with query, and the body.
type Asked = Arc<Mutex<Vec<(String, String)>>>;

pub(super) struct Server {
    pub(super) url: String,
    asked: Asked,
}

impl Server {
    /// Starts one. Its threads end with the test.
    pub(super) fn start(answers: Value) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Asked::default();
        let (answers, kept) = (Arc::new(answers), Arc::clone(&asked));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (answers, kept) = (Arc::clone(&answers), Arc::clone(&kept));
                // A client that goes away ends it.
                std::thread::spawn(move || serve(stream, &answers, &kept).ok());
            }
        });
        Self { url, asked }
    }

    /// Returns the requests so far.
    pub(super) fn asked(&self) -> Vec<(String, String)> {
        self.asked.lock().unwrap().clone()
    }
}

fn serve(mut stream: TcpStream, answers: &Value, asked: &Asked) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let request = line.trim_end().trim_end_matches(" HTTP/1.1").replacen("/api/v1", "", 1);
    let mut length = 0;
    loop {
        line.clear();
        if reader.read_line(&mut line)? <= 2 {
            break;
        }
        let header = line.to_ascii_lowercase();
        if let Some(value) = header.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if header.starts_with("expect:") {
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    asked.lock().unwrap().push((request.clone(), String::from_utf8_lossy(&body).into_owned()));
    let answer = answer(answers, &request);
    if request.starts_with("GET /events") {
        return tell(&mut stream, answer);
    }
    let (status, body) = match answer {
        Some(Value::Null) => (204, String::new()),
        Some(answer) => (answer["status"].as_u64().unwrap_or(200), answer.to_string()),
        // What a test did not foresee is no answer of an Otaru server.
        None => (418, format!("no answer to {request}")),
    };
    let length = body.len();
    let head = format!("HTTP/1.1 {status} x\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
    stream.write_all((head + &body).as_bytes())
}

/// Returns the answer to the longest request that this one begins with.
fn answer<'a>(answers: &'a Value, request: &str) -> Option<&'a Value> {
    let is_it = |known: &str| {
        request.strip_prefix(known).is_some_and(|rest| rest.is_empty() || rest.starts_with(['?', '&']))
    };
    let known = answers.as_object().unwrap().iter().filter(|(known, _)| is_it(known));
    known.max_by_key(|(known, _)| known.len()).map(|(_, answer)| answer)
}

/// Sends events, and keeps the stream open: who has heard enough goes.
fn tell(stream: &mut TcpStream, events: Option<&Value>) -> std::io::Result<()> {
    stream.write_all(b"HTTP/1.1 200 x\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")?;
    for event in events.and_then(Value::as_array).into_iter().flatten() {
        let kind = event["kind"].as_str().unwrap();
        stream.write_all(format!("event: {kind}\ndata: {event}\n\n").as_bytes())?;
    }
    stream.read(&mut [0]).map(drop)
}
