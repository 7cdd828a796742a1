use super::*;
use proptest::prelude::*;
use serde_json::json;

fn evaluate(text: &str) -> Result<Cel, String> {
    let mut scope = Scope::new();
    scope.set("object", &json!({"metadata": {"name": "a", "namespace": "n"}, "list": [1, 2]}));
    scope.evaluate(&Expression::parse(text)?).map_err(|fault| fault.to_string())
}

#[test]
fn values_and_errors_are_those_of_the_real_server() {
    for (text, expected) in [
        ("object.metadata.namespace == 'n'", Ok(true)),
        ("object.list[0] + 1 == 2", Ok(true)),
        ("object.list.all(x, x < 2)", Ok(false)),
        ("has(object.nothing)", Ok(false)),
        ("object.nothing == 1", Err("no such key: nothing")),
        ("1 / (object.list[0] - 1) == 1", Err("division by zero")),
        ("object.list[5] == 1", Err("index out of bounds: 5")),
        ("object.metadata.name + 1 == 'a'", Err("no such overload")),
    ] {
        let expected = expected.map(Cel::Bool).map_err(str::to_owned);
        assert_eq!(evaluate(text), expected, "{text}");
    }
}

#[test]
fn what_costs_too_much_is_not_done() {
    let ten = "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]";
    let nested = |depth: usize| {
        let inner =
            (0..depth).fold("true".to_owned(), |inner, at| format!("{ten}.all(x{at}, {inner})"));
        evaluate(&inner)
    };
    assert_eq!(nested(3), Ok(Cel::Bool(true)));
    assert_eq!(nested(8), Err(Fault::Limit.to_string()));
}

#[test]
fn json_there_and_back() {
    let value = json!({"a": [1, -2, 1.5, "x", null, true], "b": {"c": {}}});
    assert_eq!(to_json(&from_json(&value)), Some(value));
}

proptest! {
    #[test]
    fn any_text_is_safe(text in "\\PC{0,80}", near in "([a-z(){}\\[\\].,'0-9+?:<>=!&| ]|object|all|has|request){0,60}") {
        let _both = (evaluate(&text), evaluate(&near));
    }
}
