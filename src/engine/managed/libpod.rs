//! Podman's own build endpoint, which replaces Docker's for a managed engine: only there can a request make the steps run in
//! a chroot, which needs no privileges. Request and answer are the same, except for the end of the answer, which is the
//! image's id.

use crate::net::ImageId;

/// The endpoint; every Podman since 4.0 has it. It gets parameters that Docker's endpoint does not: `chroot`, which Podman
/// ignores elsewhere; `layers`, one for each step, as in other engines; `outputformat`, because the OCI format has no
/// HEALTHCHECK, no SHELL and no ONBUILD.
pub(in crate::engine) const BUILD: &str = "/v4.0.0/libpod/build?isolation=chroot&layers=true\
     &outputformat=application%2Fvnd.docker.distribution.manifest.v2%2Bjson";

/// The id in the last line of a build's answer, which is all that this endpoint reports about the image: a line with nothing
/// else.
pub(in crate::engine) fn final_image_id(piece: &str) -> Option<ImageId> {
    piece.strip_suffix('\n')?.parse().ok().map(ImageId::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_is_an_id_and_nothing_else() {
        let id = "c332dec03cdbff6e63ccc06c8ce26d925b03ee3339d221b3494f484a4210dc3b";
        assert_eq!(final_image_id(&format!("{id}\n")), Some(format!("sha256:{id}").parse().unwrap()));
        for other in [id.to_owned(), format!("{id}0\n"), format!("--> {id}\n"), "COMMIT a:1\n".to_owned()] {
            assert_eq!(final_image_id(&other), None);
        }
    }
}
