//! What must hold for any bytes with which a receiver of notifications answers.

/// What answers an inform: read or not, and never taken for signed without a key.
pub fn snmp(data: &[u8]) {
    weir_notify::channel::snmp::fuzz(data);
}

/// What a centre for short messages says: what is read is written again to the byte.
pub fn smpp(data: &[u8]) {
    weir_notify::channel::smpp::fuzz(data);
}
