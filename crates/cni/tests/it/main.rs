//! The plug-in as runtimes see it: environment and standard input in, exit code and standard output back.

mod calls;
mod pods;
mod space;
