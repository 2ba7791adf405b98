//! The memory of a hash, which stays with the thread that computes it.
//!
//! A hash wants some 20 MB for a few hundredths of a second. Asked of the allocator each time, it stays
//! in there several times over; kept here, it is what it is.

use argon2::Argon2;
use argon2::Block;
use argon2::Params;
use argon2::password_hash::phc::Output;
use argon2::password_hash::phc::ParamsString;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::phc::Salt;

use super::HashError;

/// The blocks of the last hash, used again by the next.
#[derive(Default)]
pub(super) struct Memory(Vec<Block>);

impl Memory {
    fn of(&mut self, params: &Params) -> &mut [Block] {
        let count = params.block_count();
        if self.0.len() != count {
            // Given back first: at no time there are both.
            self.0 = Vec::new();
            self.0.resize(count, Block::new());
        }
        &mut self.0
    }

    /// Argon2id of the current version, as long as `length` bytes.
    fn output(
        &mut self,
        params: &Params,
        password: &[u8],
        salt: &Salt,
        length: usize,
    ) -> Result<Output, HashError> {
        let argon2 =
            Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params.clone());
        let mut buffer = [0; Output::MAX_LENGTH];
        let out = buffer.get_mut(..length).ok_or(HashError::Broken)?;
        argon2
            .hash_password_into_with_memory(password, salt, out, self.of(params))
            .map_err(|_| HashError::Broken)?;
        Output::new(out).map_err(|_| HashError::Broken)
    }

    /// The hash of a password with a salt of its own.
    pub(super) fn hash(
        &mut self,
        params: &Params,
        password: &[u8],
    ) -> Result<PasswordHash, HashError> {
        let mut salt = [0; Salt::RECOMMENDED_LENGTH];
        getrandom::fill(&mut salt).map_err(|_| HashError::Broken)?;
        let salt = Salt::new(&salt).map_err(|_| HashError::Broken)?;
        let output = self.output(params, password, &salt, Params::DEFAULT_OUTPUT_LEN)?;
        Ok(PasswordHash {
            algorithm: argon2::Algorithm::Argon2id.ident(),
            version: Some(argon2::Version::V0x13.into()),
            params: ParamsString::try_from(params).map_err(|_| HashError::Broken)?,
            salt: Some(salt),
            hash: Some(output),
        })
    }

    /// Whether a hash is that of the password; told in a time that does not depend on where they differ.
    pub(super) fn fits(
        &mut self,
        hash: &PasswordHash,
        params: &Params,
        password: &[u8],
    ) -> Result<bool, HashError> {
        let (Some(salt), Some(wanted)) = (&hash.salt, &hash.hash) else { return Ok(false) };
        // Outputs compare in constant time.
        Ok(self.output(params, password, salt, wanted.len())? == *wanted)
    }
}

#[cfg(test)]
mod tests {
    use argon2::password_hash::PasswordHasher;
    use argon2::password_hash::PasswordVerifier;

    use super::*;

    fn params(memory: u32) -> Params {
        Params::new(memory, 2, 1, None).unwrap()
    }

    #[test]
    fn hashes_are_those_of_the_library_whatever_was_in_the_memory_before() {
        let mut memory = Memory::default();
        for (size, password) in [(64, "plum"), (8, "orbit"), (64, "plum"), (64, "another")] {
            let params = params(size);
            let ours = memory.hash(&params, password.as_bytes()).unwrap();
            let library = Argon2::from(params.clone());
            library.verify_password(password.as_bytes(), &ours).unwrap();
            let theirs: PasswordHash = library.hash_password(password.as_bytes()).unwrap();
            assert!(memory.fits(&theirs, &params, password.as_bytes()).unwrap());
            assert!(!memory.fits(&theirs, &params, b"plums").unwrap());
        }
    }
}
