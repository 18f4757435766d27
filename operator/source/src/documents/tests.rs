use serde_json::json;

use super::*;

fn yaml(text: &str) -> Vec<Document<'_>> {
    documents(text, Syntax::Yaml).collect()
}

fn values(text: &str, syntax: Syntax) -> Vec<(u64, Value)> {
    documents(text, syntax).map(|document| (document.line, document.value.unwrap())).collect()
}

fn fault(text: &str, syntax: Syntax) -> SyntaxFault {
    documents(text, syntax).find_map(|document| document.value.err()).expect("something is wrong with the text")
}

#[test]
fn documents_are_cut_at_markers_and_know_their_lines() {
    let text = "# a comment\n---\n\n# another\na: 1\n---\n---\n# nothing\n--- {b: 2}\n...\n\nc: |\n  ---\n  text\n---";
    assert_eq!(
        values(text, Syntax::Yaml),
        [(5, json!({"a": 1})), (9, json!({"b": 2})), (12, json!({"c": "---\ntext\n"}))]
    );
}

#[test]
fn texts_without_content_have_no_documents() {
    for text in ["", "\n\n", "# a\n", "---\n", "---\n---\n# a\n...\n", "---", "null\n", "~", "--- null\n---\n"] {
        assert_eq!(yaml(text), [], "{text:?}");
    }
    assert_eq!(values(" \n null \n", Syntax::Json), []);
}

#[test]
fn markers_need_a_space_and_the_start_of_a_line() {
    assert_eq!(values("a: x\n ---\n", Syntax::Yaml), [(1, json!({"a": "x ---"}))]);
    assert_eq!(values("---a: 1\n", Syntax::Yaml), [(1, json!({"---a": 1}))]);
    assert_eq!(values("a: 1\r\n---\r\nb: 2\r\n", Syntax::Yaml), [(1, json!({"a": 1})), (3, json!({"b": 2}))]);
}

#[test]
fn directives_belong_to_the_document_that_follows() {
    let text = "%YAML 1.2\n---\na: 1\n...\n%YAML 1.2\n---\nb: 2\n";
    assert_eq!(values(text, Syntax::Yaml), [(3, json!({"a": 1})), (7, json!({"b": 2}))]);
}

#[test]
fn a_fault_has_the_line_of_the_file_and_later_documents_are_still_read() {
    let found = yaml("a: 1\n---\nb:\n  c: [1, 2\nd: 3\n---\ne: 4\n");
    assert_eq!(found.len(), 3, "{found:?}");
    let fault = found[1].value.as_ref().unwrap_err();
    assert!((4..=5).contains(&fault.line), "{fault:?}");
    assert!(fault.message.starts_with("is no valid YAML: "), "{fault:?}");
    assert!(!fault.message.contains(" at line "), "{fault:?}");
    assert_eq!(found[2].value, Ok(json!({"e": 4})));
}

#[test]
fn a_key_may_not_stand_twice() {
    let in_yaml = fault("x: 0\n---\na: 1\nb: 2\na: 3\n", Syntax::Yaml);
    assert_eq!((in_yaml.line, in_yaml.remedy), (5, "remove one of the two"), "{in_yaml:?}");
    assert!(in_yaml.message.contains("duplicate"), "{in_yaml:?}");
    let in_json = fault("{\"a\": {\n\"b\": 1,\n\"b\": 2}}", Syntax::Json);
    assert_eq!((in_json.line, in_json.remedy), (3, "remove one of the two"), "{in_json:?}");
    assert_eq!(in_json.message, "is no valid JSON: duplicate key \"b\"");
}

#[test]
fn json_values_may_follow_one_another() {
    let text = "{\"a\": [1, -2, 3.5, true, null, \"x\"]}\n\n{\"b\":\n1}{\"c\": 2}";
    assert_eq!(
        values(text, Syntax::Json),
        [(1, json!({"a": [1, -2, 3.5, true, null, "x"]})), (3, json!({"b": 1})), (4, json!({"c": 2}))]
    );
    let broken = fault("{\"a\": 1}\n{\"b\":\n oops}", Syntax::Json);
    assert_eq!(broken.line, 3);
    assert_eq!(documents("{]{}{}", Syntax::Json).count(), 1, "after a fault nobody knows where a value starts");
}

#[test]
fn tabs_and_quoted_keys_are_fine_in_json() {
    assert_eq!(values("{\n\t\"a\":\t{\t}\n}", Syntax::Json), [(1, json!({"a": {}}))]);
}

#[test]
fn a_short_text_cannot_become_a_huge_document() {
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..10 {
        let below = format!("*a{}", level - 1);
        bomb.push_str(&format!("a{level}: &a{level} [{}]\n", [below.as_str(); 10].join(", ")));
    }
    let fault = fault(&bomb, Syntax::Yaml);
    assert!(fault.remedy.contains("fewer aliases"), "{fault:?}");
}

#[test]
fn deep_nesting_is_refused_in_every_notation() {
    for (text, syntax) in [
        ("[".repeat(100_000), Syntax::Yaml),
        ("{a: ".repeat(100_000), Syntax::Yaml),
        ("- ".repeat(100_000), Syntax::Yaml),
        ("? ".repeat(100_000), Syntax::Yaml),
        ("[".repeat(100_000), Syntax::Json),
        ("{\"a\":".repeat(100_000), Syntax::Json),
    ] {
        fault(&text, syntax);
    }
    let nested = format!("{}1{}", "[".repeat(60), "]".repeat(60));
    assert_eq!(yaml(&nested).len(), 1);
    assert!(yaml(&nested)[0].value.is_ok());
}

#[test]
fn aliases_and_merge_keys_within_reason_are_replaced() {
    let text = "base: &base {a: 1, b: 2}\nuse:\n  <<: *base\n  b: 3\nagain: *base\n";
    assert_eq!(
        values(text, Syntax::Yaml),
        [(1, json!({"base": {"a": 1, "b": 2}, "use": {"a": 1, "b": 3}, "again": {"a": 1, "b": 2}}))]
    );
}
