//! The path of a packet, there and back, as a value and as text, JSON or a picture
