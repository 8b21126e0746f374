//! Requests from lines of JSON.

use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};

use mesh::ClientView;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Answer, explain, request};

const BUFFER: usize = 1 << 16;

#[derive(Deserialize)]
struct Line {
    #[serde(default)]
    id: Value,
    method: String,
    url: String,
    #[serde(default)]
    headers: Option<Vec<(String, String)>>,
    #[serde(default)]
    roll: Option<f64>,
}

#[derive(Serialize)]
struct Refusal {
    id: Value,
    line: u64,
    error: String,
}

/// Answer every line. Were all of them requests?
pub(super) fn run(client: &ClientView, input: impl Read, output: impl Write) -> io::Result<bool> {
    let mut input = BufReader::with_capacity(BUFFER, input);
    let mut output = BufWriter::with_capacity(BUFFER, output);
    let (mut line, mut number, mut all) = (Vec::new(), 0, true);
    loop {
        // Somebody who asks one thing at a time waits for the answer before the next.
        if input.buffer().is_empty() {
            output.flush()?;
        }
        line.clear();
        if input.read_until(b'\n', &mut line)? == 0 {
            output.flush()?;
            return Ok(all);
        }
        number += 1;
        if line.trim_ascii().is_empty() {
            continue;
        }
        match read(&line) {
            Ok((id, request, roll)) => {
                let explanation = explain(client, &request, roll);
                Answer { id: &id, explanation: &explanation }.write(&mut output)?;
            }
            Err(error) => {
                all = false;
                let value = serde_json::from_slice(&line).unwrap_or(Value::Null);
                let id = value.get("id").cloned().unwrap_or_default();
                serde_json::to_writer(&mut output, &Refusal { id, line: number, error })?;
                output.write_all(b"\n")?;
            }
        }
    }
}

fn read(line: &[u8]) -> Result<(Value, http::Request<()>, Option<f64>), String> {
    let Line { id, method, url, headers, roll } = serde_json::from_slice(line).map_err(|error| without_line(&error))?;
    let headers = headers.unwrap_or_default();
    let pairs = headers.iter().map(|(name, value)| (&**name, &**value));
    let request = request::request(&method, &url, pairs)?;
    Ok((id, request, roll.map(request::roll).transpose()?))
}

/// serde_json counts lines of its own, and always says 1 here.
fn without_line(error: &serde_json::Error) -> String {
    error.to_string().replacen(" at line 1 column ", " at column ", 1)
}
