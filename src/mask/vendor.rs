//! Events of the two vendors; refused until their channels are followed.
use super::text::Context;
use super::{MaskError, Shape};
#[derive(Debug, Default)]
pub(super) struct Vendor;
impl Vendor {
    pub(super) fn reset(&mut self) {}
    pub(super) fn close_all(
        &mut self,
        _: &mut Context<'_>,
        _: Shape,
        _: &mut Vec<u8>,
    ) -> Result<(), MaskError> {
        Ok(())
    }
    pub(super) fn waits_since(&self) -> Option<u64> {
        None
    }
    pub(super) fn event(
        &mut self,
        _: &mut Context<'_>,
        _: Shape,
        _: &[u8],
        _: u64,
        _: &mut Vec<u8>,
        _: &mut Vec<u8>,
    ) -> Result<(), MaskError> {
        Err(MaskError::Unsupported)
    }
}
