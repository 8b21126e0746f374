//! Requests from lines of JSON.

use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};

use mesh::ClientView;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Answer, explain, request};

const BUFFER: usize = 1 << 16;

#[derive(Deserialize)]
#[serde(expecting = "an object", deny_unknown_fields)]
struct Line<'a> {
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
    method: String,
    url: String,
    #[serde(default)]
    headers: Option<Vec<(String, String)>>,
    #[serde(default)]
    roll: Option<f64>,
}

/// What can still be told of a line that is no request.
#[derive(Default, Deserialize)]
struct Named<'a> {
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
}

#[derive(Serialize)]
struct Refusal<'a> {
    id: Option<&'a RawValue>,
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
                Answer { id, explanation: &explanation }.write(&mut output)?;
            }
            Err(error) => {
                all = false;
                let Named { id } = serde_json::from_slice(&line).unwrap_or_default();
                serde_json::to_writer(&mut output, &Refusal { id, line: number, error })?;
                output.write_all(b"\n")?;
            }
        }
    }
}

/// What a line asks: its id, the request, the draw.
type Question<'a> = (Option<&'a RawValue>, http::Request<()>, Option<f64>);

fn read(line: &[u8]) -> Result<Question<'_>, String> {
    // serde takes a list of a struct's fields for the struct.
    if line.trim_ascii_start().starts_with(b"[") {
        return Err("a request is an object, and this is a list".into());
    }
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
