//! Rule 1: where a message ends (RFC 9112 sections 6 and 7).
