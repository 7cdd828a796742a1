//! What an evaluation costs: each round of a comprehension as much as the nodes that it evaluates.
//!
//! Only comprehensions repeat anything, so it is enough to count where they begin: what they go through is put through
//! a function of no name that a text could have.

use cel::common::ast::{
    CallExpr, EntryExpr, Expr, IdedEntryExpr, IdedExpr, LiteralValue, MapEntryExpr, MapExpr,
};
use cel::{Context, ExecutionError, Value};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

const CHARGE: &str = "@charge";

/// Makes each comprehension count its rounds.
pub(super) fn install(tree: &mut IdedExpr) {
    each_mut(tree, &mut install);
    if let Expr::Comprehension(it) = &mut tree.expr {
        let cost = size(&it.loop_cond) + size(&it.loop_step);
        let range = std::mem::take(&mut it.iter_range);
        let cost = Expr::Literal(LiteralValue::Int(cost.into()));
        let args = vec![range, IdedExpr { id: 0, expr: cost }];
        let call = CallExpr { func_name: CHARGE.to_owned(), target: None, args };
        it.iter_range = IdedExpr { id: 0, expr: Expr::Call(call) };
    }
}

/// Objects are maps: their names say only which fields they have, which is checked elsewhere.
pub(super) fn flatten(tree: &mut IdedExpr) {
    each_mut(tree, &mut flatten);
    let Expr::Struct(made) = &mut tree.expr else { return };
    let entries = std::mem::take(&mut made.entries);
    let entry = |entry: IdedEntryExpr| {
        let expr = match entry.expr {
            EntryExpr::StructField(field) => EntryExpr::MapEntry(MapEntryExpr {
                key: IdedExpr { id: 0, expr: text(field.field) },
                value: field.value,
                optional: field.optional,
            }),
            other @ EntryExpr::MapEntry(_) => other,
        };
        IdedEntryExpr { id: entry.id, expr }
    };
    tree.expr = Expr::Map(MapExpr { entries: entries.into_iter().map(entry).collect() });
}

fn text(text: String) -> Expr {
    Expr::Literal(LiteralValue::String(text.into()))
}

/// Counts what is charged down from `left`.
pub(super) fn charge(context: &mut Context<'_, '_>, left: Arc<AtomicI64>) {
    let count = move |range: Value, cost: i64| {
        let rounds = match &range {
            Value::List(items) => items.len(),
            Value::Map(map) => map.map.len(),
            _ => 0,
        };
        let cost = cost.saturating_mul(i64::try_from(rounds).unwrap_or(i64::MAX));
        let cost = cost.min(i64::from(i32::MAX));
        match left.fetch_sub(cost, Ordering::Relaxed) >= cost {
            true => Ok(range),
            false => Err(ExecutionError::function_error(CHARGE, "too much")),
        }
    };
    context.add_function(CHARGE, count).expect("no text can have this name");
}

/// How many nodes are evaluated, each once.
pub(super) fn size(tree: &IdedExpr) -> i64 {
    let mut count = 0;
    visit(tree, &mut |_| count += 1);
    count
}

/// Goes through all nodes.
pub(super) fn visit<'t>(tree: &'t IdedExpr, act: &mut dyn FnMut(&'t IdedExpr)) {
    act(tree);
    children(tree).into_iter().for_each(|child| visit(child, act));
}

fn children(tree: &IdedExpr) -> Vec<&IdedExpr> {
    match &tree.expr {
        Expr::Call(call) => call.target.iter().map(AsRef::as_ref).chain(&call.args).collect(),
        Expr::List(list) => list.elements.iter().collect(),
        Expr::Select(select) => vec![&select.operand],
        Expr::Comprehension(it) => {
            vec![&it.iter_range, &it.accu_init, &it.loop_cond, &it.loop_step, &it.result]
        }
        Expr::Map(map) => map.entries.iter().flat_map(|entry| parts(&entry.expr)).collect(),
        Expr::Struct(made) => made.entries.iter().flat_map(|entry| parts(&entry.expr)).collect(),
        Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) => Vec::new(),
    }
}

fn parts(entry: &EntryExpr) -> Vec<&IdedExpr> {
    match entry {
        EntryExpr::StructField(field) => vec![&field.value],
        EntryExpr::MapEntry(entry) => vec![&entry.key, &entry.value],
    }
}

/// Changes each child of a node.
pub(super) fn each_mut(tree: &mut IdedExpr, act: &mut dyn FnMut(&mut IdedExpr)) {
    match &mut tree.expr {
        Expr::Call(call) => {
            call.target.iter_mut().for_each(|target| act(target));
            call.args.iter_mut().for_each(act);
        }
        Expr::List(list) => list.elements.iter_mut().for_each(act),
        Expr::Select(select) => act(&mut select.operand),
        Expr::Comprehension(it) => {
            let it = &mut **it;
            [&mut it.iter_range, &mut it.accu_init, &mut it.loop_cond, &mut it.loop_step]
                .into_iter()
                .for_each(&mut *act);
            act(&mut it.result);
        }
        Expr::Map(map) => map.entries.iter_mut().for_each(|entry| each_part(&mut entry.expr, act)),
        Expr::Struct(made) => {
            made.entries.iter_mut().for_each(|entry| each_part(&mut entry.expr, act));
        }
        Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) => {}
    }
}

fn each_part(entry: &mut EntryExpr, act: &mut dyn FnMut(&mut IdedExpr)) {
    match entry {
        EntryExpr::StructField(field) => act(&mut field.value),
        EntryExpr::MapEntry(entry) => {
            act(&mut entry.key);
            act(&mut entry.value);
        }
    }
}
