//! `meshctl explain`: what becomes of a request, and why.
//!
//! ```console
//! $ meshctl explain --config mesh/ --as default/productpage GET http://reviews:9080/reviews/0 -H 'end-user: jason'
//! GET http://reviews:9080/reviews/0 as default/productpage
//! forward
//!   rule      default/reviews http[0].match[0]
//!   at        mesh/reviews.yaml:9
//!   to        outbound|9080|v2|reviews.default.svc.cluster.local
//!   …
//! ```
//!
//! `--config` takes files and directories, several after one another or several times; directories below one are not
//! read. A path without a single object is a warning on standard error. `--as` says who asks: the
//! namespace and the name of the workload; `--label` gives it labels, for rules with `sourceLabels`. The URL is
//! absolute, or a path with a `Host` header.
//!
//! # For scripts
//!
//! `--json` prints one object. `--batch` reads one request per line of standard input and writes one object per line:
//!
//! ```json
//! {"id": 1, "method": "GET", "url": "http://reviews:9080/reviews/0", "headers": [["end-user", "jason"]], "roll": 0.25}
//! ```
//!
//! `id` is any JSON value and comes back as it is; it, `headers` and `roll` may be left out. Another key is an error,
//! so that a slip of the pen is not taken for a request without headers. An answer is `{"id": …}` with the keys of an explanation, all of which are always there: see
//! [`mesh::explain`] for each of them, and for `roll`. Text is UTF-8 in both directions. A line that is no request is
//! answered by `{"id": …, "line": 7, "error": "…"}`, the `id` being null where it cannot be read, and the run goes on.
//! Empty lines are skipped.
//!
//! # Exit status
//!
//! | | |
//! |---|---|
//! | 0 | everything was answered |
//! | 1 | a line of a batch was no request; or the configuration has errors, which are on standard error: a mesh would not start with it, and the answers are those of the objects without errors |
//! | 2 | usage: an unknown option, a URL or header that is none, a path that does not exist |

mod batch;
mod request;

use std::{
    fmt::Display,
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;
use mesh::{ClientView, Config, Labels, Workload, explain::Explanation};
use mesh_core::config::{Issue, Severity, Topic};
use serde::Serialize;
use serde_json::value::RawValue;

/// What `--help` ends with.
const HELP: &str = r#"Examples:
  meshctl explain --config mesh/ --as default/productpage GET http://reviews:9080/reviews/0 -H 'end-user: jason'
  meshctl explain --config mesh/ --as default/productpage --batch < requests.jsonl > answers.jsonl

A line of a batch (id, headers and roll may be left out; another key is an error):
  {"id": 1, "method": "GET", "url": "http://reviews:9080/", "headers": [["end-user", "jason"]], "roll": 0.25}

The keys of an answer, all of which are always there, null where there is nothing:
  id, outcome, virtual_service, kind, delegate, route, rule_index, match_index, source, cluster, destinations,
  request, status, location, body, response_headers, response_operations, response_flags, timeout_ms, retries,
  fault, mirrors, rejected, unreachable, note
A line that is no request is answered by {"id", "line", "error"}.

Exit status:
  0  everything was answered
  1  a line of a batch was no request, or the configuration has errors (on standard error)
  2  usage: an unknown option, a URL or header that is none, a path that does not exist"#;

/// What becomes of a request, and why.
#[derive(Clone, Debug, Args)]
#[command(after_help = HELP)]
pub struct Arguments {
    /// Files and directories of configuration; subdirectories are not read. May be repeated.
    #[arg(long, required = true, num_args = 1.., value_name = "PATH")]
    config: Vec<PathBuf>,
    /// Who asks.
    #[arg(long = "as", value_name = "NAMESPACE/WORKLOAD", value_parser = client)]
    client: Workload,
    /// A label of who asks. May be repeated.
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// One JSON object instead of text.
    #[arg(long)]
    json: bool,
    /// Requests as JSON from standard input, one per line; an answer for each.
    #[arg(long, conflicts_with_all = ["method", "url", "headers", "roll"])]
    batch: bool,
    /// A number from 0 up to 1 in the place of every random draw.
    #[arg(long, value_parser = request::roll_of_text)]
    roll: Option<f64>,
    /// A header of the request. May be repeated.
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", value_parser = request::header)]
    headers: Vec<(String, String)>,
    /// The request's method.
    #[arg(value_name = "METHOD")]
    method: Option<String>,
    /// Absolute, or a path with a Host header.
    #[arg(value_name = "URL")]
    url: Option<String>,
}

/// Run it.
#[must_use]
pub fn run(arguments: &Arguments) -> ExitCode {
    match asked(arguments.clone()) {
        Ok((arguments, asked)) => answer(&arguments, asked),
        Err(message) => usage(&message),
    }
}

/// What is asked.
enum Asked {
    Batch,
    One(Box<http::Request<()>>),
}

fn asked(mut arguments: Arguments) -> Result<(Arguments, Asked), String> {
    if let Some(path) = arguments.config.iter().find(|path| arguments.batch && !path.exists()) {
        return Err(format!("{}: no such file or directory", path.display()));
    }
    if arguments.batch {
        return Ok((arguments, Asked::Batch));
    }
    if arguments.method.is_none() && arguments.config.len() > 2 {
        // `--config a b METHOD URL`: a list of paths ends where the request begins.
        let text = |path: PathBuf| path.into_os_string().into_string().ok();
        arguments.url = arguments.config.pop().and_then(text);
        arguments.method = arguments.config.pop().and_then(text);
    }
    let (Some(method), Some(url)) = (&arguments.method, &arguments.url) else {
        return Err("a METHOD and a URL are needed, or --batch".into());
    };
    if let Some(path) = arguments.config.iter().find(|path| !path.exists()) {
        return Err(format!("{}: no such file or directory", path.display()));
    }
    let headers = arguments.headers.iter().map(|(name, value)| (&**name, &**value));
    let request = request::request(method, url, headers)?;
    Ok((arguments, Asked::One(Box::new(request))))
}

fn answer(arguments: &Arguments, asked: Asked) -> ExitCode {
    let config = Config::read(&arguments.config);
    // Where a directory is said not to be read, that is why.
    let explained = |path: &Path| config.issues().iter().any(|issue| Path::new(&*issue.source).starts_with(path));
    for path in arguments.config.iter().filter(|path| !config.has_documents(path) && !explained(path)) {
        complain(format_args!("warning: {}: no object in it", path.display()));
    }
    let labels: Labels = arguments.labels.iter().cloned().collect();
    let client = config.client(arguments.client.clone().with_labels(labels));
    let sound = !client.issues().has_errors();
    // Warnings are lint's, but that what was named is not read changes every answer.
    let worth_it = |issue: &&Issue| issue.severity == Severity::Error || issue.topic == Topic::NotRead;
    client.issues().iter().filter(worth_it).for_each(complain);
    if !sound {
        complain("a mesh does not start with these errors: the objects that have them are left out here");
    }
    let answered = match asked {
        Asked::Batch => batch::run(&client, io::stdin().lock(), io::stdout().lock()),
        Asked::One(request) => one(arguments, &client, &request).map(|()| true),
    };
    match answered {
        Ok(all) => ExitCode::from(u8::from(!(all && sound))),
        // Whoever read has had enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            complain(format_args!("error: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn one(arguments: &Arguments, client: &ClientView, request: &http::Request<()>) -> io::Result<()> {
    let explanation = explain(client, request, arguments.roll);
    let mut out = io::stdout().lock();
    if arguments.json {
        return Answer { id: None, explanation: &explanation }.write(&mut out);
    }
    let Workload { namespace, name, .. } = &arguments.client;
    writeln!(out, "{} {} as {namespace}/{name}", request.method(), request.uri())?;
    write!(out, "{explanation}")
}

fn explain(client: &ClientView, request: &http::Request<()>, roll: Option<f64>) -> Explanation {
    match roll {
        Some(roll) => client.explain_with_roll(request, roll),
        None => client.explain(request),
    }
}

/// An answer for scripts.
#[derive(Serialize)]
struct Answer<'a> {
    id: Option<&'a RawValue>,
    #[serde(flatten)]
    explanation: &'a Explanation,
}

impl Answer<'_> {
    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        serde_json::to_writer(&mut *out, self)?;
        out.write_all(b"\n")
    }
}

fn usage(message: &str) -> ExitCode {
    complain(format_args!("error: {message}\n\nFor more information, try '--help'."));
    ExitCode::from(2)
}

/// On standard error, as long as somebody listens.
fn complain(line: impl Display) {
    let _ = writeln!(io::stderr(), "{line}");
}

fn client(text: &str) -> Result<Workload, String> {
    match text.split_once('/') {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
            Ok(Workload::new(namespace, name))
        }
        _ => Err("a namespace and a workload are needed, as in default/productpage".into()),
    }
}

fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("a key and a value are needed, as in app=reviews")?;
    Ok((key.to_owned(), value.to_owned()))
}
