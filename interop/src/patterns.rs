//! Regular expressions with strings that match them and strings that do not: requests are derived from rules, and
//! nobody derives a string from a regular expression at random.

/// A regular expression, and what it says of some strings when it has to match all of them.
#[derive(Debug)]
pub(crate) struct Pattern {
    pub(crate) regex: &'static str,
    pub(crate) yes: &'static [&'static str],
    pub(crate) no: &'static [&'static str],
}

const fn pattern(regex: &'static str, yes: &'static [&'static str], no: &'static [&'static str]) -> Pattern {
    Pattern { regex, yes, no }
}

/// Of paths.
pub(crate) static PATHS: [Pattern; 18] = [
    pattern(".*", &["/", "/any/thing"], &[]),
    pattern("/re/[0-9]+", &["/re/7", "/re/123"], &["/re/", "/re/7/", "/re/x"]),
    pattern("(?i)/inl/[a-z]+", &["/INL/Abc", "/inl/x"], &["/inl/7"]),
    pattern("^/anch$", &["/anch"], &["/anch/", "/x/anch"]),
    pattern("/(?P<first>[^/]+)/(?P<second>[^/]+)", &["/one/two", "/~a/b;c"], &["/one", "/one/two/", "//two"]),
    pattern(r"/w/\w{1,3}", &["/w/a_9"], &["/w/abcd", "/w/-"]),
    pattern(r"/set/[a-z&&[^b]]+", &["/set/b&]"], &["/set/b", "/set/"]),
    pattern("/(a|ab)(c|bcd)(d*)", &["/abcd", "/acd", "/abcdd"], &["/abd"]),
    pattern(r"/ends\z", &["/ends"], &["/ends/"]),
    pattern(r"/q/.*\.(json|xml)", &["/q/a.json", "/q/.xml", "/q/x/y.json"], &["/q/json", "/q/a.json5"]),
    pattern("/enc/(%2F|%3B)x", &["/enc/%2Fx", "/enc/%3Bx"], &["/enc//x", "/enc/;x"]),
    pattern(r"/posix/[[:alpha:]]+[[:^digit:]]?", &["/posix/ab", "/posix/a-"], &["/posix/1"]),
    pattern(r"/quote/\Qa.b*\E", &["/quote/a.b*"], &["/quote/aXb"]),
    pattern(r"/lazy/.*?/(end|endless)", &["/lazy/x/end", "/lazy//endless"], &["/lazy/x/en"]),
    pattern(r"/oct\057\x61(?-i:b)", &["/oct/ab"], &["/oct/aB"]),
    pattern(r"(?i)/word\b.\Bx*", &["/WORD-X", "/word-"], &["/words"]),
    pattern(r"(/alt|/other(?:/x)?|)/tail$", &["/alt/tail", "/tail", "/other/x/tail"], &["/othertail"]),
    pattern("/rep(/[a-f]{2}){2,3}", &["/rep/ab/cd", "/rep/aa/bb/cc"], &["/rep/ab", "/rep/ab/cd/"]),
];

/// Of header values, parameters, methods and authorities.
pub(crate) static VALUES: [Pattern; 12] = [
    pattern(".*", &["", "anything, at all"], &[]),
    pattern(".+", &["x", "a b"], &[""]),
    pattern("v[0-9]+(-canary)?", &["v1", "v22-canary"], &["v", "V1", "v1-canary-2"]),
    pattern("^(.*?;)?(user=jason)(;.*)?$", &["user=jason", "a=b;user=jason;c"], &["xuser=jason", "user=jasonx"]),
    pattern("(?i)gold|silver", &["GOLD", "silver"], &["golden", "bronze"]),
    pattern(r"\d{1,3}(\.\d{1,3}){3}", &["10.0.0.1"], &["10.0.0", "10.0.0.1000"]),
    pattern("[^a-m]*", &["xyz", ""], &["xaz"]),
    pattern(r"caf..", &["caf\u{e9}", "cafes"], &["caf", "caf\u{e9}s"]),
    pattern(r"\W+", &["--", "\u{e9}"], &["a-"]),
    pattern(r"[^\x00-\x7f]{2}", &["\u{e9}"], &["e", "\u{65e5}"]),
    pattern(r"(?P<key>[a-z]+)=(?P<value>[^;]*);?", &["k=v", "k=;"], &["=v", "K=v"]),
    pattern(r"a\x2eb|c\tb", &["a.b"], &["aXb"]),
];

/// Of origins.
pub(crate) static ORIGIN: Pattern =
    pattern(r"https://[a-z]+\.re\.test", &["https://abc.re.test"], &["https://abc.re.test:8443"]);

/// Of methods.
pub(crate) static METHODS: [Pattern; 2] =
    [pattern("GET|HEAD", &["GET", "HEAD"], &["POST"]), pattern("P.*", &["POST", "PUT", "PATCH"], &["GET"])];
