//! Processes: start, watch, end.
