//! Who asks, and what they may.

use axum::Json;

use super::model::*;

/// Who asks, and what they may.
#[utoipa::path(get, path = "/v1/session", tag = "about", responses((status = 200, body = SessionView)))]
pub(crate) async fn session() -> Json<SessionView> {
    // Whoever came this far may do everything: the one token knows no roles.
    Json(SessionView { name: None, role: RoleView::Admin, session: false })
}
