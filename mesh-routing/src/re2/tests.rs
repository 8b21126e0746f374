use super::*;

// istio.md 1.1: "rejects look-around, back-references, possessive, repeat >1000"
// istio.md 1.1: ">1024 chars rejected"
#[test]
fn accepts_and_refuses_what_envoy_does() {
    // measured on Envoy 1.40 (validate_regex.out, t10)
    for pattern in
        [r"a\z", "(?P<n>a)", "(?<n>a)", "[a&&b]", r"\07", "a{1000}", "a{", "a{,3}", "x{foo}", "(?i)a", "(?i:a)b"]
    {
        assert!(compile(pattern).is_ok(), "{pattern}: {:?}", compile(pattern).err());
    }
    for pattern in [
        r"(a)\1",
        "a{1001}",
        r"\x{10FFFF}",
        "(?=a)b",
        "(?<=a)b",
        "(?!a)",
        "a++",
        "a**",
        "a{2}{3}",
        "*",
        "[a",
        "(a",
        "a)",
        "a)(b",
        "(?x)a b",
        "(?u)a",
        r"\Z",
        "[z-a]",
        "[[:foo:]]",
        r"\",
        "a{3,2}",
        r"\b{start}{2}{3}",
    ] {
        assert!(compile(pattern).is_err(), "{pattern}");
    }
    assert!(compile(&"a".repeat(1025)).is_err());
}

// istio.md 1.1: "`[a-z&&[^b]]` is literal `&`,`[`"
#[test]
fn means_what_re2_means() {
    for (pattern, text, expected) in [
        // whole value, whatever the anchors
        ("b", "abc", false),
        ("^abc$", "abc", true),
        ("a|bc", "abc", false),
        // t10: bytes, not characters
        ("....", "\u{e9}\u{e9}", true),
        (r"\w", "\u{e9}", false),
        // t10: no set operations in classes
        ("[a-z&&[^b]]", "&]", true),
        ("[a-z&&[^b]]", "a]", true),
        ("[a-z&&[^b]]", "a", false),
        ("[!--b]", "+", true),
        ("[~~a]", "~", true),
        ("[]a]", "]", true),
        (r"[\d-z]", "-", true),
        (r"[^\s]", "\u{b}", true),
        (r"\s", "\u{b}", false),
        (r"\Qa.b\E+", "a.bb", true),
        (r"\07", "\u{7}", true),
        (r"a\.b", "a.b", true),
        (r"\<a\>", "<a>", true),
        ("a{,3}", "a{,3}", true),
        ("(?i)a", "A", true),
        (".*", "a%0Ab", true),
        (".*?([^a-z]).*", "ab1", true),
        ("[[:digit:]]+", "123", true),
    ] {
        assert_eq!(compile(pattern).unwrap().is_match(text.as_bytes()), expected, "{pattern} on {text:?}");
    }
}

proptest::proptest! {
    #[test]
    fn never_panics(pattern in r"[\[\]\\(){}?*+^$.|a-c0-9:&~<>-]{0,24}") {
        let _ = compile(&pattern);
    }
}
