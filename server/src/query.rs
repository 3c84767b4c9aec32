//! The query of a request, as forms and browsers write it.

use percent_encoding::percent_decode;

use crate::error::{Error, Result};

/// The names and values in `a=1&b=2`, percent-decoded, `+` as a blank. A name alone has an empty value.
pub(crate) fn pairs(query: &str) -> impl Iterator<Item = Result<(String, String)>> {
    query.split('&').map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        Ok((form_decoded(name)?, form_decoded(value)?))
    })
}

fn form_decoded(text: &str) -> Result<String> {
    let text = text.replace('+', " ");
    match percent_decode(text.as_bytes()).decode_utf8() {
        Ok(decoded) => Ok(decoded.into_owned()),
        Err(_) => Err(Error::BadRequest(
            "Invalid query: a percent-encoded part is not UTF-8 text".to_owned(),
        )),
    }
}
