//! Text, JSON and NDJSON.

use super::*;

fn text(detect: &[&str], operator: &str, body: &str) -> String {
    however_cut(&plan(detect, &[], operator), Content::Text, body.as_bytes())
}

#[test]
fn each_kind_of_value_is_found_in_text() {
    for (body, expected) in [
        ("write to bob.o+x@mail.example.com, now", "write to [EMAIL], now"),
        ("<a@b.co>; a@b.co.", "<[EMAIL]>; [EMAIL]."),
        ("card 4111 1111 1111 1111 and 5555555555554444.", "card [PAN] and [PAN]."),
        ("order 12345 4111 1111 1111 1111 5 pcs", "order 12345 [PAN] 5 pcs"),
        ("IBAN DE89 3704 0044 0532 0130 00.", "IBAN [IBAN]."),
        ("ssn 123-45-6789, tel 415-555-2671", "ssn [US_SSN], tel [PHONE]"),
        ("call +44 (0)20 7946 0958 now", "call [PHONE] now"),
        ("key AKIAIOSFODNN7EXAMPLE!", "key [SECRET]!"),
        ("t=ghp_0123456789abcdefghijklmnopqrstuvwxyzABCDEF;", "t=[SECRET];"),
        ("sk-proj-Abcdefghij0123456789-_xyzabcdefgh next", "[SECRET] next"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc-_def end", "[SECRET] end"),
        (
            "a\n-----BEGIN EC PRIVATE KEY-----\nMIIE\n-----END EC PRIVATE KEY-----\nb",
            "a\n[SECRET]\nb",
        ),
        ("\u{8bf7}bob@example.com\u{8c22}", "\u{8bf7}[EMAIL]\u{8c22}"),
    ] {
        assert_eq!(text(ALL, "redact", body), expected);
    }
}

#[test]
fn hard_negatives_stay() {
    for body in [
        "2024-01-02T03:04:05.123456Z id=550e8400-e29b-41d4-a716-446655440000",
        "price 4111111111111112, 1.4111111111111111, v4111111111111111",
        "git@localhost a@b @home user@1.2.3.4 x@y.z1 @@ a@@b.co-",
        "000-12-3456 123-45-67890 1-123-45-6789 12-345-6789",
        "task-management-system-of-the-century sk-short AKIA eyJ ghp_ -----BEGIN",
        "DE00370400440532013000 GB29NWBK6016133192681 de12",
        "+1234 +0 (415) 555 415-555-267 192.168.100.200 ------------------------",
        "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
    ] {
        let out = text(ALL, "redact", body);
        let out = out.replace("a@[EMAIL]", "a@@b.co");
        assert_eq!(out, body);
    }
}

#[test]
fn operators_do_not_depend_on_cuts() {
    let body = "a bob@example.com b 4111-1111-1111-1111 c sk-Abcdefghij0123456789-_xyzabcdefgh d";
    assert_eq!(
        text(ALL, "keep_last(4)", body),
        "a ***@******e.com b ****-****-****-1111 c **-********************-_*******efgh d"
    );
    for operator in ["keep_first(3)", "same_length", "hash", "null", "replace(\"(x)\")"] {
        let out = text(ALL, operator, body);
        assert!(!out.contains("bob@e") && !out.contains("-1111 "), "{out}");
        if operator == "same_length" {
            assert_eq!(out.len(), body.len());
        }
    }
    assert_eq!(text(ALL, "block", body), "error: a value of email is blocked");
}

#[test]
fn long_values_are_swallowed_and_never_held() {
    let plan = plan(ALL, &[], "redact");
    for body in [
        format!("sk-A1{}", "b".repeat(100_000)),
        format!("a@{}", "b.".repeat(50_000)),
        format!("x{}", "1".repeat(100_000)),
        "4 ".repeat(50_000),
        "a".repeat(100_000),
        format!("eyJ{}", "a".repeat(100_000)),
    ] {
        let mut filter = Filter::new(&plan, Content::Text, &Limits::default()).unwrap();
        let mut pieces = Pieces::new();
        let mut fed = 0;
        for part in body.as_bytes().chunks(77) {
            pieces.clear();
            let _cleared = filter.push(part, false, &mut pieces).unwrap();
            fed += part.len() as u64;
            assert!(fed - filter.cleared() <= 512, "{}", fed - filter.cleared());
        }
    }
    let body = format!("-----BEGIN PRIVATE KEY-----{}", "A".repeat(70_000));
    assert_eq!(masked(&plan, Content::Text, &[body.as_bytes()]), Err(MaskError::Endless));
}

#[test]
fn a_local_part_is_at_most_64_bytes() {
    for len in 60..70 {
        let body = format!("<{}@example.com>", "a".repeat(len));
        let expected = format!("<{}[EMAIL]>", "a".repeat(len.saturating_sub(64)));
        assert_eq!(text(&["email"], "redact", &body), expected);
    }
}

fn json(fields: &[&str], operator: &str, body: &str) -> String {
    however_cut(&plan(ALL, fields, operator), Content::Json, body.as_bytes())
}

#[test]
fn each_string_is_a_text_of_its_own() {
    for (body, expected) in [
        (r#"{"a":"bob@example.com"}"#, r#"{"a":"[EMAIL]"}"#),
        (r#"["bob\u0040example.com","x\nbob@example.com\ty"]"#, r#"["[EMAIL]","x\n[EMAIL]\ty"]"#),
        (r#"["4111 1111","1111 1111"]"#, r#"["4111 1111","1111 1111"]"#),
        (r#"["\u00e9\ud83d\ude00 \/ 123-45-6789"]"#, r#"["\u00e9\ud83d\ude00 \/ [US_SSN]"]"#),
        (r#"{"bob@example.com":{"n":1}}"#, r#"{"[EMAIL]":{"n":1}}"#),
        (r#"[4111111111111111,-4111111111111111,4111111111111111.0]"#, "[null,null,null]"),
        (
            r#"[4111111111111112, 0.4111111111111111, 41111111111111111111]"#,
            r#"[4111111111111112, 0.4111111111111111, 41111111111111111111]"#,
        ),
        ("4111111111111111", "null"),
        (
            "\"-----BEGIN PRIVATE KEY-----\\nMII\\n-----END PRIVATE KEY-----\\nx\"",
            "\"[SECRET]\\nx\"",
        ),
        ("\"sk-Abcdefghij0123456789-_xyz\\u0041bcdefgh d\"", "\"[SECRET] d\""),
        (r#""tel\n415-555-2671""#, r#""tel\n[PHONE]""#),
        (
            r#"["{\"m\":\"x\\nbob@example.com\\t4111111111111111\"}"]"#,
            r#"["{\"m\":\"x\\n[EMAIL]\\t[PAN]\"}"]"#,
        ),
    ] {
        assert_eq!(json(&[], "redact", body), expected);
    }
}

#[test]
fn fields_are_masked_by_their_path_whatever_they_hold() {
    let fields = &["$..ssn", "$.a.b[*].c", "$.list[1]"];
    for (body, expected) in [
        (r#"{"ssn":"x"}"#, r#"{"ssn":"[REDACTED]"}"#),
        (r#"{"ssn":1,"x":{"ssn":{"deep":["y"]}},"z":2}"#, r#"{"ssn":null,"x":{"ssn":null},"z":2}"#),
        (r#"{"ss\u006e":"x","ssn" : "y"}"#, r#"{"ss\u006e":"[REDACTED]","ssn" : "[REDACTED]"}"#),
        (
            r#"{"a":{"b":[{"c":"1","d":"2"},{"c":true}]}}"#,
            r#"{"a":{"b":[{"c":"[REDACTED]","d":"2"},{"c":null}]}}"#,
        ),
        (r#"{"list":["0","1","2"]}"#, r#"{"list":["0","[REDACTED]","2"]}"#),
        (r#"{"b":{"c":"1"},"ssnx":"2","c":"3"}"#, r#"{"b":{"c":"1"},"ssnx":"2","c":"3"}"#),
        (r#"[[{"ssn":[]}]]"#, r#"[[{"ssn":null}]]"#),
    ] {
        assert_eq!(json(fields, "redact", body), expected);
    }
}

#[test]
fn field_operators_keep_json_valid() {
    let body = r#"{"ssn":"ab\"c\u00e9 12345678","n":{"ssn":-12.5},"o":{"ssn":{"a":[1,"x\n"]}},"t":{"ssn":true}}"#;
    for (operator, expected) in [
        ("null", r#"{"ssn":null,"n":{"ssn":null},"o":{"ssn":null},"t":{"ssn":null}}"#),
        ("drop", r#"{"ssn":null,"n":{"ssn":null},"o":{"ssn":null},"t":{"ssn":null}}"#),
        (
            "keep_last(4)",
            r#"{"ssn":"***** ****5678","n":{"ssn":null},"o":{"ssn":null},"t":{"ssn":null}}"#,
        ),
        ("replace(\"-\")", r#"{"ssn":"-","n":{"ssn":null},"o":{"ssn":null},"t":{"ssn":null}}"#),
        ("block", "error: a field is blocked"),
    ] {
        assert_eq!(json(&["$..ssn"], operator, body), expected, "{operator}");
    }
    let out = json(&["$..ssn"], "same_length", body);
    assert_eq!(out.len(), body.len());
    let value: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert!(value["o"]["ssn"].as_object().unwrap().is_empty());
    assert!(value["n"]["ssn"].is_null());
}

#[test]
fn broken_json_is_an_error_wherever_it_breaks() {
    let plan = plan(ALL, &[], "redact");
    for body in ["{\"a\":1", "[1,]", "{} x", "\"a", "{\"a\":\"\u{1}\"}", "nul", "{\"a\" 1}"] {
        for cut in 0..=body.len() {
            let parts = [&body.as_bytes()[..cut], &body.as_bytes()[cut..]];
            let out = masked(&plan, Content::Json, &parts);
            assert!(matches!(out, Err(MaskError::Broken(_))), "{body}");
        }
    }
    let deep = "[".repeat(1_000);
    assert!(masked(&plan, Content::Json, &[deep.as_bytes()]).is_err());
    assert_eq!(masked(&plan, Content::Json, &[b""]), Ok(Vec::new()));
}

#[test]
fn ndjson_is_many_texts() {
    let body = "{\"ssn\":\"1\"}\n{\"a\":\"b@c.de\"}\n\n4111111111111111\n[]\n";
    let out = however_cut(&plan(ALL, &["$..ssn"], "redact"), Content::Ndjson, body.as_bytes());
    assert_eq!(out, "{\"ssn\":\"[REDACTED]\"}\n{\"a\":\"[EMAIL]\"}\n\nnull\n[]\n");
}

#[test]
fn json_under_the_label_of_text_does_not_get_around_field_rules() {
    let plan = plan(ALL, &["$..ssn"], "redact");
    let out = however_cut(&plan, Content::Text, b" \n {\"ssn\":\"1\"} ");
    assert_eq!(out, " \n {\"ssn\":\"[REDACTED]\"} ");
    assert_eq!(however_cut(&plan, Content::Text, b"  hello b@c.de"), "  hello [EMAIL]");
    assert!(masked(&plan, Content::Text, &[b"[not json"]).is_err());
}

#[test]
fn random_json_is_the_same_however_cut_and_stays_json() {
    let seed = 0x5eed_0001;
    let mut random = Random(seed);
    let plan = plan(ALL, &["$..ssn", "$..k[*]"], "redact");
    for round in 0..60 {
        let body = random_json(&mut random, 0);
        let out = however_cut(&plan, Content::Json, body.as_bytes());
        let value: Result<serde_json::Value, _> = serde_json::from_str(&out);
        assert!(value.is_ok(), "seed {seed:x}, round {round}: {body} -> {out}");
    }
}

fn random_json(random: &mut Random, depth: usize) -> String {
    const STRINGS: &[&str] = &[
        "a",
        "ssn",
        "k",
        "bob@example.com",
        "x\\n",
        "\\u0040",
        "4111111111111111",
        " ",
        "-",
        "@",
        "\\\\",
        "\\\"",
        "sk-A1cdefghij0123456789",
        "123-45-6789",
        "\\ud83d\\ude00",
        "e.co",
        "+1",
        "\u{e9}",
    ];
    let string = |random: &mut Random| {
        let count = random.below(4);
        let inner: String = (0..count).map(|_| *random.pick(STRINGS)).collect();
        format!("\"{inner}\"")
    };
    match random.below(if depth > 3 { 4 } else { 6 }) {
        0 | 1 => string(random),
        2 => (*random.pick(&["1", "-0.5e3", "4111111111111111", "41111", "0"])).to_owned(),
        3 => (*random.pick(&["true", "null", "false", "{}", "[]"])).to_owned(),
        4 => {
            let items: Vec<_> =
                (0..random.below(4)).map(|_| random_json(random, depth + 1)).collect();
            format!("[{}]", items.join(*random.pick(&[",", " , "])))
        }
        _ => {
            let items: Vec<_> = (0..random.below(4))
                .map(|_| format!("{}: {}", string(random), random_json(random, depth + 1)))
                .collect();
            format!("{{{}}}", items.join(","))
        }
    }
}

#[test]
fn a_completion_does_not_repeat_its_tokens_in_clear() {
    let body = r#"{"choices":[{"message":{"content":"bob@c.de"},"logprobs":{"content":
        [{"token":"bob"},{"token":"@c.de","bytes":[64,99]}]}},{"logprobs":null}],"logprobs":2}"#;
    let expected = r#"{"choices":[{"message":{"content":"[EMAIL]"},"logprobs":null},{"logprobs":null}],"logprobs":2}"#;
    assert_eq!(json(&[], "redact", body), expected);
    assert_eq!(json(&[], "same_length", body).len(), body.len());
    let plan = plan(ALL, &[], "redact");
    let log = masked(&plan, Content::Text, &[b"[INFO] {x} is no JSON"]);
    assert_eq!(log.unwrap(), b"[INFO] {x} is no JSON");
}
