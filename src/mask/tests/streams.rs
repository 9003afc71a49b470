//! Event streams.

use super::*;

#[test]
fn plain_events_are_masked_each_for_itself() {
    let plan = plan(ALL, &["$..ssn"], "redact");
    let body = ": ping b@c.de\n\nevent: x\r\ndata: {\"ssn\":\"1\",\"m\":\"b@c.de\"}\r\n\r\n\
                data: call b@c.de\ndata: now\n\ndata: 4111111111111111\nid: 7\n\ndata: [DONE]";
    assert_eq!(
        however_cut(&plan, Content::Sse(Shape::Plain), body.as_bytes()),
        ": ping [EMAIL]\n\nevent: x\ndata: {\"ssn\":\"[REDACTED]\",\"m\":\"[EMAIL]\"}\n\n\
         data: call [EMAIL]\ndata: now\n\nid: 7\ndata: null\n\ndata: [DONE]\n\n"
    );
    let broken = b"data: {\"ssn\":\"1\",}\n\n";
    assert!(masked(&plan, Content::Sse(Shape::Plain), &[broken]).is_err());
}
