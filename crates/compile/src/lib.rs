//! World and node to Program and findings
