//! Tests of the model from outside.

#[cfg(test)]
mod examples;
