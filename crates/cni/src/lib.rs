//! The CNI plug-in and its address management
