// Philox-4x32-10 (Salmon et al., SC 2011), as Random123 has it: a draw is a pure function of (seed, stream,
// counter, element). A device brings QM_INLINE and includes this file inside its namespace.
// lib/util/philox.ts is the same.

struct PhiloxWords {
  uint32_t word[4];
};

/// Ten rounds on a counter of four words with a key of two.
QM_INLINE PhiloxWords philox4x32(uint32_t c0, uint32_t c1, uint32_t c2, uint32_t c3, uint32_t k0,
                                 uint32_t k1) {
  for (int round = 0; round < 10; round++) {
    const uint64_t product0 = uint64_t{0xd2511f53u} * c0;
    const uint64_t product1 = uint64_t{0xcd9e8d57u} * c2;
    c0 = static_cast<uint32_t>(product1 >> 32) ^ c1 ^ k0;
    c1 = static_cast<uint32_t>(product1);
    c2 = static_cast<uint32_t>(product0 >> 32) ^ c3 ^ k1;
    c3 = static_cast<uint32_t>(product0);
    k0 += 0x9e3779b9u;
    k1 += 0xbb67ae85u;
  }
  return {{c0, c1, c2, c3}};
}

/// The key of one draw: seed and counter below 2^53, stream below 2^16.
struct PhiloxKey {
  uint64_t seed, stream, counter;
};

/// Words 4 block to 4 block + 3 of a draw. The block's upper half shares its counter word with the stream;
/// blocks stay below 2^48, so they never meet.
QM_INLINE PhiloxWords philox_block(PhiloxKey key, uint64_t block) {
  return philox4x32(static_cast<uint32_t>(block), static_cast<uint32_t>((block >> 32) | (key.stream << 16)),
                    static_cast<uint32_t>(key.counter), static_cast<uint32_t>(key.counter >> 32),
                    static_cast<uint32_t>(key.seed), static_cast<uint32_t>(key.seed >> 32));
}

/// [0, 1) with 24 bits: every value is exact in float32.
QM_INLINE float philox_uniform24(uint32_t word) {
  return static_cast<float>(word >> 8) * 5.9604644775390625e-8f;
}
/// [0, 1) with 53 bits.
QM_INLINE double philox_uniform53(uint32_t high, uint32_t low) {
  return (static_cast<double>(high >> 5) * 67108864.0 + static_cast<double>(low >> 6)) *
         1.1102230246251565404e-16;
}
/// (0, 1] with 32 bits: its logarithm is finite.
QM_INLINE double philox_above_zero(uint32_t word) {
  return (static_cast<double>(word) + 1.0) * 2.3283064365386962891e-10;
}
/// (0, 1) with 32 bits, both ends excluded.
QM_INLINE double philox_inside(uint32_t word) {
  return (static_cast<double>(word) + 0.5) * 2.3283064365386962891e-10;
}
