//! RFC 7692 5 and 7.1: negotiation of the parameters.

mod common;

use common::{client, endpoint, server};
use tidewheel_codec::deflate::{Deflate, InvalidAgreement};

/// Returns the server's answer to the values of `Sec-WebSocket-Extensions`.
fn answer(deflate: &Deflate, offers: &[&str]) -> Option<String> {
    let mut config = server();
    config.deflate = Some(deflate.clone());
    endpoint(&config)
        .accept_deflate(offers.iter().copied())
        .map(|agreement| agreement.to_string())
}

/// The response without context takeover.
const NO_TAKEOVER: &str =
    "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

#[test]
fn section_5_the_first_supported_offer_is_accepted() {
    let mut takeover = Deflate::default();
    takeover.context_takeover = true;
    for (offers, expected) in [
        (&["permessage-deflate"][..], "permessage-deflate"),
        (
            &["permessage-deflate; client_max_window_bits"],
            "permessage-deflate",
        ),
        (
            &["permessage-foo, permessage-deflate"],
            "permessage-deflate",
        ),
        (
            &["x; y=1", "  permessage-deflate ;server_no_context_takeover"],
            "permessage-deflate; server_no_context_takeover",
        ),
        (
            &["permessage-deflate; client_no_context_takeover"],
            "permessage-deflate; client_no_context_takeover",
        ),
        (
            &["permessage-deflate; server_max_window_bits=10"],
            "permessage-deflate; server_max_window_bits=10",
        ),
        (
            &["permessage-deflate; server_max_window_bits=\"10\""],
            "permessage-deflate; server_max_window_bits=10",
        ),
        (
            &["permessage-deflate; client_max_window_bits=9"],
            "permessage-deflate; client_max_window_bits=9",
        ),
        // zlib does not support the hint of 8, which may be ignored.
        (
            &["permessage-deflate; client_max_window_bits=8"],
            "permessage-deflate",
        ),
        (
            &[
                "permessage-deflate; server_max_window_bits=8, permessage-deflate; server_max_window_bits=9",
            ],
            "permessage-deflate; server_max_window_bits=9",
        ),
        (
            &["permessage-deflate; unknown, permessage-deflate"],
            "permessage-deflate",
        ),
    ] {
        assert_eq!(
            answer(&takeover, offers).as_deref(),
            Some(expected),
            "{offers:?}"
        );
    }
    assert_eq!(
        answer(&Deflate::default(), &["permessage-deflate"]).as_deref(),
        Some(NO_TAKEOVER)
    );
}

#[test]
fn section_7_1_invalid_offers_are_declined() {
    for offer in [
        "",
        "deflate",
        "PERMESSAGE-DEFLATE",
        "x-webkit-deflate-frame",
        "permessage-deflate; unknown",
        "permessage-deflate; unknown=1",
        "permessage-deflate; server_no_context_takeover=1",
        "permessage-deflate; client_no_context_takeover=true",
        "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
        "permessage-deflate; client_no_context_takeover; client_no_context_takeover",
        "permessage-deflate; server_max_window_bits",
        "permessage-deflate; server_max_window_bits=7",
        "permessage-deflate; server_max_window_bits=8",
        "permessage-deflate; server_max_window_bits=16",
        "permessage-deflate; server_max_window_bits=010",
        "permessage-deflate; server_max_window_bits=+10",
        "permessage-deflate; server_max_window_bits=1e1",
        "permessage-deflate; server_max_window_bits=300",
        "permessage-deflate; server_max_window_bits=",
        "permessage-deflate; server_max_window_bits=10; server_max_window_bits=10",
        "permessage-deflate; client_max_window_bits=7",
        "permessage-deflate; client_max_window_bits=16",
        "permessage-deflate; client_max_window_bits; client_max_window_bits=10",
        "permessage-deflate;",
        "permessage-deflate; ;",
        "permessage-deflate server_no_context_takeover",
        "permessage-deflate; server_max_window_bits=\"10",
        "permessage-deflate; server_max_window_bits=\"1,0\"",
    ] {
        assert_eq!(answer(&Deflate::default(), &[offer]), None, "{offer}");
    }
    assert!(
        endpoint(&server())
            .accept_deflate(["permessage-deflate"])
            .is_none(),
        "compression is off"
    );
}

#[test]
fn section_7_1_2_the_configured_windows_limit_the_response() {
    let mut small = Deflate::default();
    small.context_takeover = true;
    small.max_window_bits = 11;
    small.peer_max_window_bits = 10;
    for (offer, expected) in [
        ("permessage-deflate", "permessage-deflate"),
        (
            "permessage-deflate; client_max_window_bits",
            "permessage-deflate; client_max_window_bits=10",
        ),
        (
            "permessage-deflate; client_max_window_bits=9",
            "permessage-deflate; client_max_window_bits=9",
        ),
        (
            "permessage-deflate; client_max_window_bits=15",
            "permessage-deflate; client_max_window_bits=10",
        ),
        (
            "permessage-deflate; server_max_window_bits=15",
            "permessage-deflate; server_max_window_bits=11",
        ),
        (
            "permessage-deflate; server_max_window_bits=9",
            "permessage-deflate; server_max_window_bits=9",
        ),
    ] {
        assert_eq!(
            answer(&small, &[offer]).as_deref(),
            Some(expected),
            "{offer}"
        );
    }
}

#[test]
fn section_7_1_the_offer_of_a_client_depends_on_its_settings() {
    let offer = |deflate: Deflate| {
        let mut config = client();
        config.deflate = Some(deflate);
        endpoint(&config).offer_deflate().unwrap()
    };
    assert_eq!(
        offer(Deflate::default()),
        format!("{NO_TAKEOVER}; client_max_window_bits")
    );
    let mut takeover = Deflate::default();
    takeover.context_takeover = true;
    assert_eq!(
        offer(takeover.clone()),
        "permessage-deflate; client_max_window_bits"
    );
    let mut small = takeover.clone();
    small.max_window_bits = 11;
    small.peer_max_window_bits = 10;
    assert_eq!(
        offer(small),
        "permessage-deflate; server_max_window_bits=10; client_max_window_bits=11"
    );
    let mut without_budget = takeover;
    without_budget.takeover_budget = 1000;
    assert_eq!(
        offer(without_budget),
        format!("{NO_TAKEOVER}; client_max_window_bits")
    );
    assert_eq!(endpoint(&client()).offer_deflate(), None);
}

#[test]
fn section_7_1_the_client_checks_the_response() {
    let confirm = |deflate: &Deflate, accepted: &[&str]| {
        let mut config = client();
        config.deflate = Some(deflate.clone());
        endpoint(&config)
            .confirm_deflate(accepted.iter().copied())
            .map(|agreement| agreement.is_some())
    };
    let mut takeover = Deflate::default();
    takeover.context_takeover = true;
    let mut small = takeover.clone();
    small.peer_max_window_bits = 10;
    for (deflate, accepted, expected) in [
        (&takeover, &[][..], Ok(false)),
        (&takeover, &["permessage-deflate"], Ok(true)),
        (&takeover, &[NO_TAKEOVER], Ok(true)),
        (
            &takeover,
            &["permessage-deflate; client_max_window_bits=9"],
            Ok(true),
        ),
        (
            &takeover,
            &["permessage-deflate; server_max_window_bits=8"],
            Ok(true),
        ),
        (
            &takeover,
            &["permessage-deflate; client_max_window_bits=8"],
            Err(InvalidAgreement::ClientWindow { got: 8 }),
        ),
        (
            &takeover,
            &["permessage-deflate; client_max_window_bits"],
            Err(InvalidAgreement::Parameter),
        ),
        (
            &takeover,
            &["permessage-deflate; unknown"],
            Err(InvalidAgreement::Parameter),
        ),
        (
            &takeover,
            &["permessage-deflate", "permessage-deflate"],
            Err(InvalidAgreement::Repeated),
        ),
        (
            &Deflate::default(),
            &["permessage-deflate"],
            Err(InvalidAgreement::ContextTakeover),
        ),
        (
            &Deflate::default(),
            &["permessage-deflate; server_no_context_takeover"],
            Ok(true),
        ),
        (
            &small,
            &["permessage-deflate"],
            Err(InvalidAgreement::ServerWindow { limit: 10 }),
        ),
        (
            &small,
            &["permessage-deflate; server_max_window_bits=11"],
            Err(InvalidAgreement::ServerWindow { limit: 10 }),
        ),
        (
            &small,
            &["permessage-deflate; server_max_window_bits=10"],
            Ok(true),
        ),
    ] {
        assert_eq!(confirm(deflate, accepted), expected, "{accepted:?}");
    }
}
