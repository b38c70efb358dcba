//! The real `weir` between real clients and real origins.
//!
//! Each test has a folder and a loopback address of its own and may run beside any other; those that load the machine take turns. The client
//! and the origins share no HTTP code with the product. `WEIR_E2E_RELOAD_EVERY_MS`, `WEIR_E2E_CONNECT_SECONDS` and `WEIR_E2E_UPGRADES` make the
//! long tests longer.

mod frames;
mod load;
mod origin;
mod rig;
mod wire;

mod acme;
mod alarm;
mod alive;
mod announce;
mod broken_origins;
mod change;
mod clients;
mod endpoint_h2;
mod endpoint_tls;
mod failure;
mod grpc;
mod h2;
mod h2_rules;
mod passthrough;
mod refused;
mod resilience;
mod routing;
mod sessions;
mod stop;
mod tcp;
mod tls;
mod top;
mod traffic;
mod udp;
mod websocket;
