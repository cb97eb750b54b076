// Scalar maths, written once for one lane or many. `V` is float, double or a vector of either; a device
// brings the types VecF32 to VecI64, `splat`, `same` (a constant of V's type), `mul_add`, `as_int` and
// `as_float` (the same bits), `to_float` and `per_lane`, and includes this file inside its namespace (so that
// instruction sets stay apart).
//
// float32: range reduction and a polynomial of our own; float64 (gradient checks, references): the C library,
// lane by lane.

/// c[0] + c[1] x + ... by Horner's rule.
template <int kTerms>
QM_INLINE VecF64 polynomial(VecF64 x, const double (&c)[kTerms]) {
  VecF64 p = splat(c[kTerms - 1]);
  for (int k = kTerms - 2; k >= 0; k--) p = mul_add(p, x, splat(c[k]));
  return p;
}

/// e^x. Error below 2 ULP; overflows to infinity, underflows through the subnormals, keeps NaN.
QM_INLINE VecF32 exp_of(VecF32 x) {
  x = x > splat(89.0f) ? splat(89.0f) : x;
  x = x < splat(-104.0f) ? splat(-104.0f) : x;
  // n = round(x / ln 2): adding 1.5 * 2^23 leaves the integer in the low bits
  const VecF32 shifted = mul_add(x, splat(1.44269504f), splat(12582912.0f));
  const VecF32 n = shifted - splat(12582912.0f);
  VecF32 r = mul_add(n, splat(-0.693359375f), x);
  r = mul_add(n, splat(2.12194440e-4f), r);
  // Taylor to degree 7: |r| <= 0.347, remainder 5e-9
  VecF32 p = mul_add(r, splat(1.98412698e-4f), splat(1.38888889e-3f));
  p = mul_add(p, r, splat(8.33333333e-3f));
  p = mul_add(p, r, splat(4.16666667e-2f));
  p = mul_add(p, r, splat(1.66666667e-1f));
  p = mul_add(p, r, splat(0.5f));
  p = mul_add(p, r, splat(1.0f));
  p = mul_add(p, r, splat(1.0f));
  // times 2^n in two halves, so that neither leaves the normal range
  const VecI32 k = as_int(shifted) - splat(int32_t{0x4b400000});
  const VecI32 k1 = k >> 1;
  const VecI32 k2 = k - k1;
  const VecF32 scale1 = as_float((k1 + 127) << 23);
  const VecF32 scale2 = as_float((k2 + 127) << 23);
  return p * scale1 * scale2;
}
QM_INLINE VecF64 exp_of(VecF64 x) {
  x = x > splat(710.0) ? splat(710.0) : x;
  x = x < splat(-746.0) ? splat(-746.0) : x;
  const VecF64 shifted = mul_add(x, splat(1.44269504088896340736), splat(6755399441055744.0));
  const VecF64 n = shifted - splat(6755399441055744.0);
  VecF64 r = mul_add(n, splat(-6.93147180369123816490e-1), x);
  r = mul_add(n, splat(-1.90821492927058770002e-10), r);
  // Taylor to degree 13: remainder 4e-18
  constexpr double inverse_factorials[] = {1.0,
                                           1.0,
                                           1.0 / 2,
                                           1.0 / 6,
                                           1.0 / 24,
                                           1.0 / 120,
                                           1.0 / 720,
                                           1.0 / 5040,
                                           1.0 / 40320,
                                           1.0 / 362880,
                                           1.0 / 3628800,
                                           1.0 / 39916800,
                                           1.0 / 479001600,
                                           1.0 / 6227020800};
  const VecF64 p = polynomial(r, inverse_factorials);
  const VecI64 k = as_int(shifted) - splat(int64_t{0x4338000000000000});
  const VecI64 k1 = k >> 1;
  const VecI64 k2 = k - k1;
  return p * as_float((k1 + 1023) << 52) * as_float((k2 + 1023) << 52);
}

/// Natural logarithm: -inf at 0, NaN below.
QM_INLINE VecF32 log_of(VecF32 x) {
  const VecI32 tiny = x < splat(1.17549435e-38f);
  // 0 and below, whose results are fixed at the end, take the place of 1: their bits would overflow
  const VecF32 scaled = tiny ? (x > splat(0.0f) ? x * splat(8388608.0f) : splat(1.0f)) : x;
  const VecI32 bits = as_int(scaled) - splat(int32_t{0x3f3504f3});  // sqrt(1/2)
  VecI32 exponent = bits >> 23;
  exponent = tiny ? exponent - 23 : exponent;
  const VecF32 m = as_float((bits & splat(int32_t{0x007fffff})) + splat(int32_t{0x3f3504f3}));
  const VecF32 e = to_float(exponent);
  // log(1 + f) = f - s (f - R) with s = f / (2 + f), R = s^2 (2/3 + 2/5 s^2 + ...)
  const VecF32 f = m - splat(1.0f);
  const VecF32 s = f / (f + splat(2.0f));
  const VecF32 z = s * s;
  VecF32 series = mul_add(z, splat(0.18181818f), splat(0.22222222f));
  series = mul_add(series, z, splat(0.28571429f));
  series = mul_add(series, z, splat(0.4f));
  series = mul_add(series, z, splat(0.66666667f)) * z;
  const VecF32 low = mul_add(e, splat(-2.12194440e-4f), -(s * (f - series)));
  const VecF32 y = mul_add(e, splat(0.693359375f), f + low);
  const VecF32 inf = splat(std::numeric_limits<float>::infinity());
  VecF32 result = x == splat(0.0f) ? -inf : y;
  result = x == inf ? inf : result;
  return x >= splat(0.0f) ? result : splat(std::numeric_limits<float>::quiet_NaN());
}
QM_INLINE VecF64 log_of(VecF64 x) {
  return per_lane(x, [](double v) { return std::log(v); });
}

/// log(1 + t) for t in [0, 1], by 2 atanh(t / (2 + t)).
QM_INLINE VecF32 log1p_unit(VecF32 t) {
  const VecF32 s = t / (t + splat(2.0f));
  const VecF32 z = s * s;
  VecF32 p = mul_add(z, splat(0.13333333f), splat(0.15384615f));
  p = mul_add(p, z, splat(0.18181818f));
  p = mul_add(p, z, splat(0.22222222f));
  p = mul_add(p, z, splat(0.28571429f));
  p = mul_add(p, z, splat(0.4f));
  p = mul_add(p, z, splat(0.66666667f));
  return mul_add(p * z, s, s + s);
}
QM_INLINE VecF64 log1p_unit(VecF64 t) {
  return per_lane(t, [](double v) { return std::log1p(v); });
}

template <class V>
QM_INLINE V abs_of(V x) {
  return x < 0 ? -x : x + 0;  // + 0 turns -0 into 0
}

QM_INLINE VecF32 sqrt_of(VecF32 x) {
  return per_lane(x, [](float v) { return std::sqrt(v); });
}
QM_INLINE VecF64 sqrt_of(VecF64 x) {
  return per_lane(x, [](double v) { return std::sqrt(v); });
}

/// 1 / (1 + e^-x), from e^-|x| so that neither side loses digits.
template <class V>
QM_INLINE V sigmoid_of(V x) {
  const V t = exp_of(-abs_of(x));
  return (x < 0 ? t : same(x, 1)) / (t + 1);
}

QM_INLINE VecF32 tanh_of(VecF32 x) {
  const VecF32 a = abs_of(x);
  const VecF32 z = x * x;
  // odd polynomial below 0.625, fitted at Chebyshev nodes (4e-9)
  VecF32 p = mul_add(z, splat(-0.005657135184f), splat(0.02058819145f));
  p = mul_add(p, z, splat(-0.05372010766f));
  p = mul_add(p, z, splat(0.1333111406f));
  p = mul_add(p, z, splat(-0.3333325986f));
  p = x == splat(0.0f) ? x : mul_add(p * z, x, x);  // -0 stays -0
  const VecF32 t = exp_of(a + a);
  const VecF32 large = splat(1.0f) - splat(2.0f) / (t + splat(1.0f));
  return a < splat(0.625f) ? p : (x < splat(0.0f) ? -large : large);
}
QM_INLINE VecF64 tanh_of(VecF64 x) {
  return per_lane(x, [](double v) { return std::tanh(v); });
}

/// e^(-scale x^2), scale a power of 2. It loses no digits to the rounding of x^2: the top bits square
/// exactly, the rest is a small factor.
QM_INLINE VecF32 gauss(VecF32 x, float scale) {
  const VecF32 top = as_float(as_int(x) & splat(int32_t{-4096}));
  return exp_of(-top * top * splat(scale)) * exp_of((top - x) * (top + x) * splat(scale));
}
QM_INLINE VecF64 gauss(VecF64 x, double scale) {
  const VecF64 top = as_float(as_int(x) & splat(int64_t{-134217728}));  // 26 bits: their square is exact
  return exp_of(-top * top * splat(scale)) * exp_of((top - x) * (top + x) * splat(scale));
}

/// e^(t^2) erfc(t) for t >= 1: P(w) w with w = 1 / (t + 2), P fitted at Chebyshev nodes on [1, 10.5]
/// (1.3e-8).
QM_INLINE VecF32 erfc_scaled(VecF32 t) {
  const VecF32 w = splat(1.0f) / (t + splat(2.0f));
  VecF32 p = mul_add(w, splat(24.1432834f), splat(-29.27303804f));
  p = mul_add(p, w, splat(5.470440866f));
  p = mul_add(p, w, splat(1.887643671f));
  p = mul_add(p, w, splat(2.872987127f));
  p = mul_add(p, w, splat(1.974307584f));
  p = mul_add(p, w, splat(1.128242471f));
  return mul_add(p, w, splat(0.5641947409f)) * w;
}
/// The odd polynomial of erf on [-1, 1], divided by x (4e-11).
QM_INLINE VecF32 erf_series(VecF32 z) {
  VecF32 p = mul_add(z, splat(-9.667044571e-6f), splat(1.126595903e-4f));
  p = mul_add(p, z, splat(-8.484080406e-4f));
  p = mul_add(p, z, splat(5.221031808e-3f));
  p = mul_add(p, z, splat(-2.686543073e-2f));
  p = mul_add(p, z, splat(0.112837825f));
  p = mul_add(p, z, splat(-0.3761263847f));
  return mul_add(p, z, splat(1.128379167f));
}
/// erf(x) / x in powers of x^2 on [0, 1], fitted at Chebyshev nodes (1.5e-19).
QM_TABLE double kErfSeries[] = {
    1.1283791670955125738,     -0.37612638903183748056,     0.11283791670954878666,
    -0.026866170645076793248,  0.0052239776248180144673,    -0.00085483269808337899052,
    0.00012055331111642710923, -0.000014925595266831181565, 1.6461000484121368033e-6,
    -1.6350312701054695011e-7, 1.4659775274047435814e-8,    -1.137284885679167367e-9,
    5.9571761477489114044e-11,
};
QM_INLINE VecF64 erf_series(VecF64 z) { return polynomial(z, kErfSeries); }

/// (t + 3) e^(t^2) erfc(t) in powers of (t - 3) / (t + 3), fitted on [1, 28] (3.7e-17).
QM_TABLE double kErfcTail[] = {
    1.0740069070883397001,       -0.88339445316988367632,   0.59022835710410283557,
    -0.310467261900553362,       0.11952776128720476583,    -0.026827234625366221205,
    -0.0012124166241150098396,   0.0030340620235677522567,  -0.00054830975397525509165,
    -0.00027677812559499761594,  0.00010756224031358088639, 0.000030399995666374686599,
    -0.000017476099054791830559, -4.7549953881362077855e-6, 2.7892194240787617049e-6,
    1.0021219213163715434e-6,    -4.6295436626951069573e-7, -2.0725281810800631835e-7,
    9.7989572971960060089e-8,
};
QM_INLINE VecF64 erfc_scaled(VecF64 t) {
  const VecF64 below = t + splat(3.0);
  return polynomial((t - splat(3.0)) / below, kErfcTail) / below;
}

/// Where erfc has vanished: its tail is evaluated up to here.
QM_INLINE VecF32 erfc_end(VecF32) { return splat(10.5f); }
QM_INLINE VecF64 erfc_end(VecF64) { return splat(28.0); }

template <class V>
QM_INLINE V erf_of(V x) {
  const V a = abs_of(x);
  const V end = erfc_end(x);
  const V t = a > end ? end : (a < 1 ? same(x, 1) : a);
  const V large = same(x, 1) - erfc_scaled(t) * gauss(t, 1);
  const V y = a < 1 ? x * erf_series(x * x) : (x < 0 ? -large : large);
  return x == x ? y : x;
}

/// Standard normal distribution function, Phi(x) = erfc(-x / sqrt 2) / 2, accurate in both tails.
template <class V>
QM_INLINE V normal_cdf(V x) {
  const V s = x * same(x, 0.70710678118654752440);
  const V a = abs_of(s);
  const V end = erfc_end(x);
  const V half = same(x, 0.5);
  // of x itself: rounding x / sqrt 2 would change e^(-x^2 / 2) by x^2 units
  const V tail = a > end ? same(x, 0) : half * erfc_scaled(a < 1 ? same(x, 1) : a) * gauss(x, 0.5f);
  const V centre = mul_add(half * s, erf_series(s * s), half);
  const V y = a < 1 ? centre : (s < 0 ? tail : same(x, 1) - tail);
  return x == x ? y : x;
}

/// log(1 + e^x); the identity above 20, as the reference model has it.
template <class V>
QM_INLINE V softplus_of(V x) {
  const V positive = x > 0 ? x : same(x, 0);
  const V y = positive + log1p_unit(exp_of(-abs_of(x)));
  return x > 20 ? x : y;
}
