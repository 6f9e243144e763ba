//! The random numbers behind the classic RAND policy: a Mersenne Twister (MT19937).
//!
//! Owns nothing but its state. RAND gives a container a digit, 0 to 9, each time its priority is
//! computed; studies of it are seeded with this generator and take the digit from its low four
//! bits, drawing again above nine. Same generator, same digits: a seeded run of RAND can be
//! compared call for call and not only in the mean.

const LEN: usize = 624;
const MIDDLE: usize = 397;

#[derive(Debug, Clone)]
pub struct Mersenne {
    state: Box<[u32; LEN]>,
    at: usize,
}

impl Mersenne {
    pub fn new(seed: u32) -> Self {
        let mut state = Box::new([seed; LEN]);
        for at in 1..LEN {
            let before = state[at - 1];
            let mixed = 1_812_433_253_u32.wrapping_mul(before ^ (before >> 30));
            state[at] = mixed.wrapping_add(at as u32);
        }
        Self { state, at: LEN }
    }

    /// A digit, 0 to 9.
    pub fn digit(&mut self) -> u8 {
        loop {
            let drawn = (self.word() & 15) as u8;
            if drawn <= 9 {
                return drawn;
            }
        }
    }

    fn word(&mut self) -> u32 {
        if self.at == LEN {
            self.twist();
        }
        let mut word = self.state[self.at];
        self.at += 1;
        word ^= word >> 11;
        word ^= (word << 7) & 0x9d2c_5680;
        word ^= (word << 15) & 0xefc6_0000;
        word ^ (word >> 18)
    }

    fn twist(&mut self) {
        for at in 0..LEN {
            let upper = self.state[at] & 0x8000_0000;
            let joined = upper | (self.state[(at + 1) % LEN] & 0x7fff_ffff);
            let odd = if joined & 1 == 1 { 0x9908_b0df } else { 0 };
            self.state[at] = self.state[(at + MIDDLE) % LEN] ^ (joined >> 1) ^ odd;
        }
        self.at = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_are_those_of_the_published_generator() {
        let mut random = Mersenne::new(5489);
        assert_eq!(random.word(), 3_499_211_612);
        for _ in 1..9_999 {
            random.word();
        }
        assert_eq!(random.word(), 4_123_659_995);
    }

    #[test]
    fn digits_are_digits_and_all_come() {
        let mut random = Mersenne::new(0);
        let mut seen = [0; 10];
        for _ in 0..1_000 {
            seen[usize::from(random.digit())] += 1;
        }
        assert!(seen.iter().all(|&count| count > 50), "{seen:?}");
    }
}
