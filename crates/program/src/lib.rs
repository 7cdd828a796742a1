//! What a node must do with packets, as values, and its interpreter
