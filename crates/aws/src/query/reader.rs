//! What our own clients read of an XML answer: the text of one element, or the error.

use quick_xml::events::Event;

/// The answer is not the XML that was expected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// Not XML.
    #[error("the answer is not well-formed XML")]
    Xml(#[from] quick_xml::Error),
    /// A character reference or entity that XML does not define.
    #[error("the answer holds an unknown entity")]
    Entity,
}

/// The text of the first element of this name (without namespace), wherever it stands.
pub fn text_of(xml: &str, name: &str) -> Result<Option<String>, ReadError> {
    let mut reader = quick_xml::Reader::from_str(xml);
    let mut text: Option<String> = None;
    let mut depth = 0_usize;
    loop {
        match reader.read_event()? {
            Event::Eof => return Ok(None),
            Event::Start(e) if depth > 0 || e.local_name().as_ref() == name.as_bytes() => {
                depth += 1;
                text.get_or_insert_default();
            }
            Event::Empty(e) if depth == 0 && e.local_name().as_ref() == name.as_bytes() => {
                return Ok(Some(String::new()));
            }
            Event::End(_) if depth > 0 => {
                depth -= 1;
                if depth == 0 {
                    return Ok(text);
                }
            }
            Event::Text(t) if depth == 1 => {
                let part = t.decode().map_err(quick_xml::Error::from)?;
                text.get_or_insert_default().push_str(&part);
            }
            Event::CData(t) if depth == 1 => {
                let part = t.decode().map_err(quick_xml::Error::from)?;
                text.get_or_insert_default().push_str(&part);
            }
            Event::GeneralRef(r) if depth == 1 => {
                let part = match r.resolve_char_ref()? {
                    Some(c) => c.to_string(),
                    None => {
                        let entity = r.decode().map_err(quick_xml::Error::from)?;
                        let known = quick_xml::escape::resolve_predefined_entity(&entity);
                        known.ok_or(ReadError::Entity)?.to_owned()
                    }
                };
                text.get_or_insert_default().push_str(&part);
            }
            _ => {}
        }
    }
}

/// Code and message of an error answer; `None` when it is none.
pub fn error_of(xml: &str) -> Result<Option<(String, String)>, ReadError> {
    if text_of(xml, "Error")?.is_none() {
        return Ok(None);
    }
    let Some(code) = text_of(xml, "Code")? else { return Ok(None) };
    Ok(Some((code, text_of(xml, "Message")?.unwrap_or_default())))
}
