// Philox-4x32-10 (Salmon et al., SC 2011), as Random123 defines it. A draw is a pure function of (seed,
// stream, counter, element): no state, any order, any device. lib/util/philox.ts is the same for decisions
// made in TypeScript. A device brings QM_INLINE and includes this file inside its namespace.

struct PhiloxWords {
  uint32_t w[4];
};

/// One draw: every element of a tensor takes its words from here.
struct Draw {
  uint64_t seed;
  uint64_t stream;   // below 2^16: what the numbers are for
  uint64_t counter;  // which call
};

QM_INLINE void philox_round(uint32_t (&c)[4], uint32_t k0, uint32_t k1) {
  const uint64_t p0 = uint64_t{0xD2511F53u} * c[0];
  const uint64_t p1 = uint64_t{0xCD9E8D57u} * c[2];
  const uint32_t c1 = c[1], c3 = c[3];
  c[0] = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ k0;
  c[1] = static_cast<uint32_t>(p1);
  c[2] = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ k1;
  c[3] = static_cast<uint32_t>(p0);
}

/// Ten rounds on a counter of four words with a key of two. Written out, so that a loop over blocks becomes
/// vectors.
QM_INLINE PhiloxWords philox4x32(uint32_t c0, uint32_t c1, uint32_t c2, uint32_t c3, uint32_t k0,
                                 uint32_t k1) {
  constexpr uint32_t w0 = 0x9E3779B9u, w1 = 0xBB67AE85u;
  uint32_t c[4] = {c0, c1, c2, c3};
  philox_round(c, k0, k1);
  philox_round(c, k0 + w0, k1 + w1);
  philox_round(c, k0 + 2u * w0, k1 + 2u * w1);
  philox_round(c, k0 + 3u * w0, k1 + 3u * w1);
  philox_round(c, k0 + 4u * w0, k1 + 4u * w1);
  philox_round(c, k0 + 5u * w0, k1 + 5u * w1);
  philox_round(c, k0 + 6u * w0, k1 + 6u * w1);
  philox_round(c, k0 + 7u * w0, k1 + 7u * w1);
  philox_round(c, k0 + 8u * w0, k1 + 8u * w1);
  philox_round(c, k0 + 9u * w0, k1 + 9u * w1);
  return {{c[0], c[1], c[2], c[3]}};
}

/// The four words of a block below 2^48: word w of the draw is word w % 4 of block w / 4.
QM_INLINE PhiloxWords philox_block(Draw draw, uint64_t block) {
  return philox4x32(static_cast<uint32_t>(block), static_cast<uint32_t>(block >> 32 | draw.stream << 16),
                    static_cast<uint32_t>(draw.counter), static_cast<uint32_t>(draw.counter >> 32),
                    static_cast<uint32_t>(draw.seed), static_cast<uint32_t>(draw.seed >> 32));
}

/// [0, 1) in steps of 2^-24: every value is a float32.
QM_INLINE float uniform_float(uint32_t word) { return static_cast<float>(word >> 8) * 0x1p-24f; }
/// [0, 1) in steps of 2^-53, from two words.
QM_INLINE double uniform_double(uint32_t high, uint32_t low) {
  return (static_cast<double>(high >> 5) * 0x1p26 + static_cast<double>(low >> 6)) * 0x1p-53;
}
/// (0, 1]: has a logarithm.
QM_INLINE double uniform_positive(uint32_t word) { return (static_cast<double>(word) + 1.0) * 0x1p-32; }
/// (0, 1): so does its logarithm's negative.
QM_INLINE double uniform_open(uint32_t word) { return (static_cast<double>(word) + 0.5) * 0x1p-32; }
