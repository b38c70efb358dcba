//! Health checks. STUB.
