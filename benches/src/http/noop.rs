//! The server that does nothing: what HTTP alone costs with the same libraries as ours.

use std::net::{Ipv4Addr, SocketAddr};

use bytes::Bytes;
use warp::Filter;
use warp::http::Response;

use crate::Result;

/// What it answers to every GET: as long as a value of the load.
const VALUE: &str =
    r#"{"t":21.53,"h":47,"c0":512.07,"c1":98.41,"c2":733.90,"c3":5.62,"c4":411.18,"c5":87.33}"#;

/// Serves until it is killed: a constant for GET, and for PUT nothing, once the body is read.
pub fn serve(port: u16) -> Result<()> {
    let put = warp::put().and(warp::body::bytes()).map(|_body: Bytes| Response::new(String::new()));
    let get = warp::get().map(|| {
        let response = Response::builder().header("content-type", "application/json");
        response.body(VALUE.to_owned())
    });
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(warp::serve(get.or(put)).run(address));
    Ok(())
}
