//! The query of a request, as forms and browsers write it.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use crate::error::{Error, Result};

/// The names and values in `a=1&b=2`, percent-decoded, `+` as a blank. A name alone has an empty value.
pub(crate) fn pairs(query: &str) -> impl Iterator<Item = Result<(Cow<'_, str>, Cow<'_, str>)>> {
    query.split('&').map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        Ok((form_decoded(name)?, form_decoded(value)?))
    })
}

fn form_decoded(text: &str) -> Result<Cow<'_, str>> {
    let decoded = if text.contains('+') {
        let text = text.replace('+', " ");
        percent_decode_str(&text).decode_utf8().map(|decoded| Cow::Owned(decoded.into_owned()))
    } else {
        percent_decode_str(text).decode_utf8()
    };
    decoded.map_err(|_| {
        Error::BadRequest("Invalid query: a percent-encoded part is not UTF-8 text".to_owned())
    })
}
