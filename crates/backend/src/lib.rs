//! Program to NetState to kernel, one folder per back end
