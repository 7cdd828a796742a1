use super::*;
use proptest::prelude::*;

fn checker() -> Checker {
    let mut checker = Checker::of_admission(false, true);
    checker.declare("variables.count", Type::Int);
    checker
}

#[test]
fn faults_are_those_of_the_real_server() {
    for (text, expected) in [
        (
            "nothing == 1",
            "1:1: undeclared reference to 'nothing' (in container '')\n | nothing == 1\n | ^",
        ),
        (
            "object.nothing()",
            "1:15: undeclared reference to 'nothing' (in container '')\n | object.nothing()\n | ..............^",
        ),
        (
            "nothing(1)",
            "1:8: undeclared reference to 'nothing' (in container '')\n | nothing(1)\n | .......^",
        ),
        (
            "'a' + 1 == 2",
            "1:5: found no matching overload for '_+_' applied to '(string, int)'\n | 'a' + 1 == 2\n | ....^",
        ),
        (
            "size(1) == 1",
            "1:5: found no matching overload for 'size' applied to '(int)'\n | size(1) == 1\n | ....^",
        ),
        (
            "[1, 2].all(x, y)",
            "1:15: undeclared reference to 'y' (in container '')\n | [1, 2].all(x, y)\n | ..............^",
        ),
        (
            "request.nothing == 1",
            "1:8: undefined field 'nothing'\n | request.nothing == 1\n | .......^",
        ),
        (
            "true && 'a'",
            "1:9: expected type 'bool' but found 'string'\n | true && 'a'\n | ........^",
        ),
        (
            "'a' == 1",
            "1:5: found no matching overload for '_==_' applied to '(string, int)'\n | 'a' == 1\n | ....^",
        ),
        (
            "'a'.matches('(')",
            "1:13: invalid matches argument\n | 'a'.matches('(')\n | ............^",
        ),
    ] {
        let expected = format!("compilation failed: ERROR: <input>:{expected}");
        assert_eq!(checker().check(text), Err(expected), "{text}");
    }
}

#[test]
fn types_of_what_is_right() {
    for (text, expected) in [
        ("object.a", "dyn"),
        ("object.a == 1 || variables.count > 2", "bool"),
        ("has(object.a)", "bool"),
        ("[1, 2].map(x, x + 1)", "list(int)"),
        ("object.list.map(x, x.name)", "list(dyn)"),
        ("object.list.filter(x, x.a == 1).size() > 0", "bool"),
        ("request.userInfo.groups.exists(g, g == 'a')", "bool"),
        ("object.?a.orValue('x')", "dyn"),
        ("object.?a.?b.hasValue()", "bool"),
        ("object.a ? 'x' : 'y'", "string"),
        ("'a' + string(1)", "string"),
        ("authorizer.group('').resource('pods').check('get').allowed()", "bool"),
        ("authorizer.requestResource.check('get').allowed()", "bool"),
        ("quantity('1').isGreaterThan(quantity(object.a))", "bool"),
        ("namespaceObject.metadata.labels['a'] == 'b'", "bool"),
        ("object.a in ['x', 'y']", "bool"),
        ("{'a': 1}['a']", "int"),
        ("[[1], []].all(x, x.size() > 0)", "bool"),
        ("object == null || type(object.a) == string", "bool"),
    ] {
        assert_eq!(
            checker().check(text).map(|it| it.to_string()),
            Ok(expected.to_owned()),
            "{text}"
        );
    }
}

proptest! {
    #[test]
    fn any_text_is_safe(text in "\\PC{0,80}", near in "([a-z(){}\\[\\].,'0-9+?:<>=!&| \n]|object|all|has|request){0,60}") {
        let _both = (checker().check(&text), checker().check(&near));
    }
}

#[test]
fn fields_of_a_kind_have_types() {
    let root = crate::resources::Kind::Deployment.resource().root().unwrap();
    let mut checker = checker();
    checker.declare("object", Type::of_schema(root));
    let check = |text: &str| checker.check(text).map(|it| it.to_string());
    for (text, expected) in [
        ("object.spec.replicas > 1", "bool"),
        ("object.metadata.labels", "map(string, string)"),
        ("object.spec.template.spec.containers.map(c, c.name)", "list(string)"),
        ("object.spec.strategy.rollingUpdate.maxSurge", "dyn"),
        (
            "object == null || object.metadata.creationTimestamp < timestamp('2030-01-01T00:00:00Z')",
            "bool",
        ),
    ] {
        assert_eq!(check(text).as_deref(), Ok(expected), "{text}");
    }
    for (text, expected) in [
        (
            "object.spec.replicas > '1'",
            "found no matching overload for '_>_' applied to '(int, string)'",
        ),
        (
            "'got ' + object.spec.replicas",
            "found no matching overload for '_+_' applied to '(string, int)'",
        ),
        ("object.spec.nothing < 10", "undefined field 'nothing'"),
    ] {
        let found = check(text).unwrap_err();
        assert!(found.contains(expected), "{found}");
    }
}
