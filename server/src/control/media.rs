//! Media types of published messages (`Content-Type`, RFC 9110 8.3) and of metrics (`Accept`, RFC 9110 12.5.1).

use hyper::{HeaderMap, header};
use mediatype::{
    MediaType, MediaTypeList, Name, ReadParams,
    names::{APPLICATION, CHARSET, JSON, Q, TEXT},
};

const VERSION: Name<'static> = Name::new_unchecked("version");

/// The kind of a published message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum MessageKind {
    Text,
    Binary,
}

/// A `Content-Type` from which the kind of a message cannot be derived.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum Unsupported {
    #[error("Content-Type is not a media type, such as text/plain")]
    NoMediaType,
    #[error("the request has several Content-Type headers")]
    Several,
    #[error("the charset is {charset}; it must be UTF-8")]
    Charset { charset: String },
}

impl MessageKind {
    /// Returns the kind of a message: text for `text/...`, `application/json` and `.../...+json`, otherwise binary.
    ///
    /// # Errors
    /// If `Content-Type` is malformed or repeated, or a text has a charset other than UTF-8 or ASCII.
    pub(super) fn of_message(headers: &HeaderMap) -> Result<Self, Unsupported> {
        let mut values = headers.get_all(header::CONTENT_TYPE).iter();
        let Some(value) = values.next().filter(|value| !value.is_empty()) else {
            return Ok(Self::Binary);
        };
        if values.next().is_some() {
            return Err(Unsupported::Several);
        }
        let value = value.to_str().map_err(|_| Unsupported::NoMediaType)?;
        let media = MediaType::parse(value).map_err(|_| Unsupported::NoMediaType)?;
        let is_json = media.ty == APPLICATION && media.subty == JSON && media.suffix.is_none();
        if media.ty != TEXT && !is_json && media.suffix != Some(JSON) {
            return Ok(Self::Binary);
        }
        let charset = media.get_param(CHARSET);
        let charset = charset.as_ref().map(|it| it.unquoted_str());
        match charset {
            Some(charset) if !is_utf8(&charset) => Err(Unsupported::Charset {
                charset: charset.into_owned(),
            }),
            Some(_) | None => Ok(Self::Text),
        }
    }
}

/// Whether every text in this charset is UTF-8.
fn is_utf8(charset: &str) -> bool {
    let names = ["utf-8", "utf8", "us-ascii", "ascii"];
    names.iter().any(|it| charset.eq_ignore_ascii_case(it))
}

/// A text format of metrics.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum MetricsFormat {
    /// The Prometheus text format 0.0.4.
    Prometheus,
    /// OpenMetrics 1.0.0.
    OpenMetrics,
}

/// The weight that a client gives to a format.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
struct Preference {
    /// `q`, in thousandths.
    weight: u16,
    specificity: Specificity,
}

/// The specificity of a media range: the most specific range that matches applies (RFC 9110 12.5.1).
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
enum Specificity {
    #[default]
    Any,
    Type,
    Subtype,
    Version,
}

impl MetricsFormat {
    /// The format that a client prefers by its `Accept` headers; [`MetricsFormat::Prometheus`] without a
    /// preference.
    pub(super) fn preferred(headers: &HeaderMap) -> Self {
        let preference = |format: Self| {
            let values = headers.get_all(header::ACCEPT).iter();
            let ranges = values
                .filter_map(|value| value.to_str().ok())
                .flat_map(MediaTypeList::new)
                .filter_map(Result::ok);
            ranges
                .filter_map(|range| format.preference(&range))
                .max_by_key(|it| (it.specificity, it.weight))
                .unwrap_or_default()
        };
        if preference(Self::OpenMetrics) > preference(Self::Prometheus) {
            Self::OpenMetrics
        } else {
            Self::Prometheus
        }
    }

    /// The value of `Content-Type`.
    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    fn names(self) -> [&'static str; 3] {
        match self {
            Self::Prometheus => ["text", "plain", "0.0.4"],
            Self::OpenMetrics => ["application", "openmetrics-text", "1.0.0"],
        }
    }

    /// The weight that a media range gives to this format; `None` if the range does not match, or its weight is
    /// malformed.
    fn preference(self, range: &MediaType<'_>) -> Option<Preference> {
        let weight: f64 = match range.get_param(Q) {
            Some(weight) => weight.as_str().parse().ok()?,
            None => 1.0,
        };
        let weight = (0.0..=1.0).contains(&weight).then_some(weight)?;
        let [ty, subty, version] = self.names();
        let requested = range.get_param(VERSION);
        let is_it = range.ty == ty && range.subty == subty && range.suffix.is_none();
        let specificity = match (range.ty.as_str(), range.subty.as_str()) {
            _ if is_it => match requested.as_ref().map(|it| it.unquoted_str()) {
                Some(requested) if requested == version => Specificity::Version,
                Some(_) => return None,
                None => Specificity::Subtype,
            },
            ("*", "*") => Specificity::Any,
            (_, "*") if range.ty == ty => Specificity::Type,
            (_, _) => return None,
        };
        Some(Preference {
            weight: (weight * 1000.0).round() as u16,
            specificity,
        })
    }
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    fn headers(name: header::HeaderName, values: &[&str]) -> HeaderMap {
        let values = values.iter().map(|it| HeaderValue::from_str(it).unwrap());
        values.map(|value| (name.clone(), value)).collect()
    }

    #[test]
    fn text_and_json_are_text_in_any_case_and_with_parameters() {
        for text in [
            "text/plain",
            "Text/Plain",
            "text/html; charset=utf-8",
            "TEXT/CSV;header=present;charset=\"UTF-8\"",
            "text/plain ; Charset=us-ascii",
            "text/plain;",
            "application/json",
            "APPLICATION/JSON; charset=UTF-8",
            "application/vnd.api+json",
            "application/cloudevents+JSON; charset=utf-8",
            "model/gltf+json",
        ] {
            let kind = MessageKind::of_message(&headers(header::CONTENT_TYPE, &[text]));
            assert_eq!(kind, Ok(MessageKind::Text), "{text}");
        }
    }

    #[test]
    fn other_media_types_are_binary() {
        for binary in [
            &[][..],
            &[""],
            &["application/octet-stream"],
            &["application/jsonx"],
            &["application/json+xml"],
            &["application/x-text/plain"],
            &["application/x-www-form-urlencoded"],
            &["image/png; charset=latin1"],
            &["json/application"],
        ] {
            let kind = MessageKind::of_message(&headers(header::CONTENT_TYPE, binary));
            match binary {
                ["application/x-text/plain"] => assert_eq!(kind, Err(Unsupported::NoMediaType)),
                _ => assert_eq!(kind, Ok(MessageKind::Binary), "{binary:?}"),
            }
        }
    }

    #[test]
    fn a_malformed_or_repeated_content_type_is_unsupported() {
        let of = |values: &[&str]| MessageKind::of_message(&headers(header::CONTENT_TYPE, values));
        for wrong in [
            "text",
            "/",
            "text/",
            "text/plain; charset",
            "text plain",
            "\u{e9}/x",
        ] {
            assert_eq!(of(&[wrong]), Err(Unsupported::NoMediaType), "{wrong}");
        }
        assert_eq!(of(&["text/plain", "text/plain"]), Err(Unsupported::Several));
        let charset = "ISO-8859-1".to_owned();
        assert_eq!(
            of(&["text/plain; charset=ISO-8859-1"]),
            Err(Unsupported::Charset { charset })
        );
    }

    #[test]
    fn the_format_with_the_highest_weight_is_chosen() {
        const OPEN: MetricsFormat = MetricsFormat::OpenMetrics;
        const TEXT: MetricsFormat = MetricsFormat::Prometheus;
        for (accept, expected) in [
            (&[][..], TEXT),
            (&[""], TEXT),
            (&["*/*"], TEXT),
            (&["text/html,application/xhtml+xml,*/*;q=0.8"], TEXT),
            (&["text/html"], TEXT),
            (&["application/openmetrics-text"], OPEN),
            (
                &["Application/OpenMetrics-Text; Version=1.0.0; charset=utf-8"],
                OPEN,
            ),
            (&["application/openmetrics-text; version=\"1.0.0\""], OPEN),
            (&["application/openmetrics-text; version=0.0.1"], TEXT),
            (&["application/*"], OPEN),
            (&["application/json"], TEXT),
            // The headers of Prometheus 2 and 3.
            (
                &[
                    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;\
                   version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                ],
                OPEN,
            ),
            (
                &[
                    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
                   application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;\
                   escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1",
                ],
                OPEN,
            ),
            (
                &[
                    "application/openmetrics-text; version=0.0.1,text/plain;version=0.0.4;q=0.5,\
                   */*;q=0.1",
                ],
                TEXT,
            ),
            // The weight decides, not the order.
            (
                &["application/openmetrics-text;q=0.3, text/plain;q=0.4"],
                TEXT,
            ),
            (
                &["text/plain;q=0.3", "application/openmetrics-text;q=0.301"],
                OPEN,
            ),
            (&["application/openmetrics-text, text/plain"], TEXT),
            (
                &["text/plain;q=0, application/openmetrics-text;q=0.001"],
                OPEN,
            ),
            (&["application/openmetrics-text;q=0, */*"], TEXT),
            (&["text/plain;q=0, */*"], OPEN),
            (&["*/*, application/openmetrics-text"], OPEN),
            (&["*/*;q=0"], TEXT),
            // The most specific range applies, not the one with the largest weight.
            (&["text/*, text/plain;q=0.1, application/*;q=0.5"], OPEN),
            (
                &["text/plain;version=0.0.4;q=0.2, text/plain, application/openmetrics-text;q=0.5"],
                OPEN,
            ),
            // Malformed weights and ranges are ignored.
            (
                &["application/openmetrics-text;q=2, text/plain;q=0.1"],
                TEXT,
            ),
            (
                &["application/openmetrics-text;q=NaN, text/plain;q=0.1"],
                TEXT,
            ),
            (
                &["application/openmetrics-text;q=-1, text/plain;q=0.1"],
                TEXT,
            ),
            (&["application/openmetrics-text;q=, text/plain;q=0.1"], TEXT),
            (&[",,;,openmetrics,application/openmetrics-text"], OPEN),
        ] {
            let got = MetricsFormat::preferred(&headers(header::ACCEPT, accept));
            assert_eq!(got, expected, "{accept:?}");
        }
    }
}
