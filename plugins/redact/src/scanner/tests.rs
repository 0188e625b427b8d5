use std::ops::Range;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const ALL: Rules = Rules {
    emails: true,
    secrets: true,
};

fn scanner() -> Scanner {
    Scanner::new(ALL, "[{kind}]")
}

/// What becomes of `text` in one piece.
fn masked(text: &str) -> String {
    String::from_utf8(scanner().feed(text.as_bytes(), true).to_vec()).unwrap()
}

/// What becomes of `text` in pieces that end at `cuts`.
fn masked_in_pieces(text: &[u8], cuts: &[usize]) -> Vec<u8> {
    let mut scanner = scanner();
    let mut out = Vec::new();
    let mut from = 0;
    for cut in cuts {
        out.extend_from_slice(scanner.feed(&text[from..*cut], false));
        from = *cut;
    }
    out.extend_from_slice(scanner.feed(&text[from..], true));
    out
}

#[test]
fn every_kind_of_secret_is_masked() {
    for (text, expected) in [
        (
            "write to jane.doe+x@mail.example.co.uk.",
            "write to [email].",
        ),
        (
            "<Jörg@exämple.de>; “a@b.org”—c@d.org",
            "<[email]>; “[email]”—[email]",
        ),
        (
            "'tis 'jane@example.org', --x@y.net",
            "'tis '[email]', --[email]",
        ),
        ("a@b@example.org", "a@[email]"),
        (
            "a@b.org--she, a@b.org-x.net, a@b.org-",
            "[email]--she, [email], [email]-",
        ),
        (
            "a@b.org--she, a@b.org-x.net, a@b.org-",
            "[email]--she, [email], [email]-",
        ),
        ("id AKIAIOSFODNN7EXAMPLE.", "id [aws-key]."),
        ("ASIAIOSFODNN7EXAMPLE", "[aws-key]"),
        ("ghp_0123456789abcdefghijABCDEFGHIJ012345", "[github-token]"),
        (
            "x github_pat_11ABCDEFG0123456789_abcdefghij!",
            "x [github-token]!",
        ),
        ("(glpat-abcdefghij0123456789)", "([gitlab-token])"),
        ("xoxb-123456789012-abcDEF", "[slack-token]"),
        (
            "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl ok",
            "[jwt] ok",
        ),
        (
            "Authorization: Bearer abc123def456/+==\r\n",
            "Authorization: Bearer [bearer-token]\r\n",
        ),
        ("4111 1111 1111 1111, 5555-5555-5555-4444", "[card], [card]"),
        ("378282246310005", "[card]"),
        ("1 4111111111111111", "1 [card]"),
    ] {
        assert_eq!(masked(text), expected, "{text}");
    }
}

#[test]
fn assigned_values_are_masked_and_their_names_stay() {
    for (text, expected) in [
        ("password=hunter2", "password=[secret]"),
        ("DB_PASSWORD: hunter2 # yes", "DB_PASSWORD: [secret] # yes"),
        ("api-key := 'a b' + 'c'", "api-key := '[secret]' + 'c'"),
        (
            r#"{"clientSecret": "a\"b", "x": 1}"#,
            r#"{"clientSecret": "[secret]", "x": 1}"#,
        ),
        (
            r#""{\"apiKey\": \"a\", \"b\": 1}""#,
            r#""{\"apiKey\": \"[secret]\", \"b\": 1}""#,
        ),
        (
            "https://x.org/?token=abc&page=2",
            "https://x.org/?token=[secret]&page=2",
        ),
        ("Token: Bearer abc", "Token: Bearer [secret]"),
        (
            "aws_secret_access_key = wJalr/K7MDENG\n",
            "aws_secret_access_key = [secret]\n",
        ),
        ("password='open", "password='[secret]"),
        ("secret => ['a']", "secret => ['a']"),
    ] {
        assert_eq!(masked(text), expected, "{text}");
    }
}

#[test]
fn ordinary_text_stays() {
    for text in [
        "Meet me @ noon; user@localhost is no address, nor is a@b.c1",
        "the bearer of tidings, the bearer-instruments",
        "the password, the secret; token::Kind, password == x, passwords: 3",
        "4111 1111 1111 1112, 20260101000000000, +4111111111111111, x4111111111111111",
        "AKIAIOSFODNN7EXAMPL, xAKIAIOSFODNN7EXAMPLE, AKIAIOSFODNN7EXAMPLEX",
        "ghp_short, glpat-short, xoxb-short, eyJhbGci.x",
        "-----BEGIN PUBLIC KEY-----\nMIIB\n-----END PUBLIC KEY-----\n",
        "password: \"\"",
    ] {
        assert_eq!(masked(text), text);
    }
}

#[test]
fn a_private_key_goes_with_all_of_its_lines() {
    for (text, expected) in [
        (
            "a\n-----BEGIN RSA PRIVATE KEY-----\r\nProc-Type: 4,ENCRYPTED\r\n\r\nMIIE+/==\r\n\
             -----END RSA PRIVATE KEY-----\r\nb\n",
            "a\n[private-key]\r\nb\n",
        ),
        (
            "key: |\n  -----BEGIN PRIVATE KEY-----\n  MIIE\n  -----END PRIVATE KEY-----\nb: 1\n",
            "key: |\n  [private-key]\nb: 1\n",
        ),
        (
            r#"{"k":"-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----\n","a":1}"#,
            r#"{"k":"[private-key]\n","a":1}"#,
        ),
        (
            "> -----BEGIN PGP PRIVATE KEY BLOCK-----\n> Version: 1\n>\n> lQdG\n\
             > -----END PGP PRIVATE KEY BLOCK-----\n> yours\n",
            "> [private-key]\n> yours\n",
        ),
        (
            "-----BEGIN PRIVATE KEY-----\nMIIE\ncut off, alas\n",
            "[private-key]\ncut off, alas\n",
        ),
    ] {
        assert_eq!(masked(text), expected, "{text}");
    }
}

#[test]
fn what_is_longer_than_the_look_ahead_is_masked_to_its_end() {
    let long = "a1".repeat(3 * LOOKAHEAD);
    assert_eq!(masked(&format!("password={long} b")), "password=[secret] b");
    assert_eq!(
        masked(&format!("password=\"{long} {long}\" b")),
        "password=\"[secret]\" b"
    );
    let jwt = format!("eyJhbGciOiJI.{long}.{long}");
    assert_eq!(masked(&format!("({jwt})")), "([jwt])");
}

#[test]
fn what_is_not_asked_for_stays() {
    let text = b"jane@example.org password=x";
    let mut emails = Scanner::new(
        Rules {
            emails: true,
            secrets: false,
        },
        "*",
    );
    assert_eq!(emails.feed(text, true), b"* password=x");
    let mut secrets = Scanner::new(
        Rules {
            emails: false,
            secrets: true,
        },
        "<{kind}>",
    );
    assert_eq!(
        secrets.feed(text, true),
        b"jane@example.org password=<secret>"
    );
}

#[test]
fn whole_lines_without_secrets_go_on_as_the_same_slice() {
    let text =
        "Emma Woodhouse, handsome, clever, and rich: _she_ -- not I -- was 21.\n".repeat(100);
    let mut scanner = scanner();
    let passed = scanner.feed(text.as_bytes(), false);
    assert_eq!(passed.as_ptr_range(), text.as_bytes().as_ptr_range());
    // With half a line at its end, all before that line does.
    let passed = scanner.feed(&text.as_bytes()[..75], false);
    assert_eq!(passed.as_ptr_range().start, text.as_ptr());
    assert_eq!(passed.len(), 70);
}

#[test]
fn no_more_than_the_look_ahead_is_held_back() {
    let mut scanner = scanner();
    let mut passed = 0;
    for _ in 0..20 {
        passed += scanner.feed(&[b'x'; 500], false).len();
        assert!(scanner.held.len() < LOOKAHEAD);
    }
    passed += scanner.feed(b"", true).len();
    assert_eq!(passed, 20 * 500);
}

#[test]
fn what_is_no_utf8_stays() {
    let text = b"\xff\xfe jane@example.org \xc3 \xe2\x80\n\x80@\x80.\xf0\x9f\n";
    assert_eq!(
        masked_in_pieces(text, &[]),
        b"\xff\xfe [email] \xc3 \xe2\x80\n\x80@\x80.\xf0\x9f\n"
    );
}

/// Text in which much goes on: whole secrets, parts of secrets, and what may stand between.
fn busy_text() -> impl Strategy<Value = Vec<u8>> {
    let fixed: Vec<&'static [u8]> = [
        "jane@example.org",
        "@",
        ".",
        "é",
        "“",
        "—",
        "AKIAIOSFODNN7EXAMPLE",
        "AKIA",
        "ghp_",
        "0123456789abcdefghijABCDEFGHIJ012345",
        "xoxb-",
        "glpat-",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIi",
        "Bearer ",
        "bearer",
        "password",
        "api_key",
        "token",
        "secret",
        "=",
        ": ",
        "\"",
        "'",
        "\\\"",
        "{",
        " ",
        "\t",
        "\n",
        "\r\n",
        "\n\n",
        "-",
        "-----BEGIN PRIVATE KEY-----",
        "-----END PRIVATE KEY-----",
        "MIIEvQIBADANBg",
        "Proc-Type: 4,ENCRYPTED",
        "\\n",
        "4111 1111 1111 1111",
        "5555",
        "1",
        "Emma Woodhouse, handsome",
    ]
    .map(str::as_bytes)
    .to_vec();
    let part = prop_oneof![
        12 => proptest::sample::select(fixed).prop_map(<[u8]>::to_vec),
        1 => vec(any::<u8>(), 1..8),
        1 => (any::<u8>(), 1..1500usize).prop_map(|(byte, length)| vec![byte; length]),
    ];
    vec(part, 0..40).prop_map(|parts| parts.concat())
}

fn cuts(length: Range<usize>) -> impl Strategy<Value = Vec<usize>> {
    vec(length, 0..12).prop_map(|mut cuts| {
        cuts.sort_unstable();
        cuts
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn the_result_does_not_depend_on_how_the_text_is_cut(
        (text, cuts) in busy_text().prop_flat_map(|text| {
            let length = 0..text.len() + 1;
            (Just(text), cuts(length))
        }),
    ) {
        let whole = masked_in_pieces(&text, &[]);
        prop_assert_eq!(&masked_in_pieces(&text, &cuts), &whole);
        let every: Vec<usize> = (0..text.len()).collect();
        prop_assert_eq!(&masked_in_pieces(&text, &every), &whole);
    }

    #[test]
    fn passing_over_quiet_lines_changes_nothing(text in busy_text()) {
        let mut careful = scanner();
        let every_line = |text: &[u8], at: usize, _| {
            text[at..].iter().position(|byte| *byte != b'\n').map(|offset| at + offset)
        };
        let (decided, changed) = careful.scan(&text, true, every_line);
        prop_assert_eq!(decided, text.len());
        let expected = if changed { careful.out } else { text.clone() };
        prop_assert_eq!(masked_in_pieces(&text, &[]), expected);
    }
}
