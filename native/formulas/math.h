// Scalar maths, written once for one lane or many. `V` is float, double or a vector of either; a device
// brings the types VecF32 to VecI64, `splat`, `same` (a constant of V's type), `mul_add`, `as_int` and
// `as_float` (the same bits), `to_float` and `per_lane`; `at_most(x, c)` and `at_least(x, c)`, which keep NaN;
// `times_power_of_2(x, n)`, whose results may be subnormal; `square_rest(x, s)` = x^2 - s, exact, for s = x^2
// rounded. It includes this file inside its namespace (so that instruction sets stay apart).
//
// float32: range reduction and a polynomial of our own; float64 (gradient checks, references): the same to more
// digits, or the C library, lane by lane.
//
// Largest errors of float32 measured over its whole range (every 61st number), in units in the last place, with and
// without a fused multiply-add:
//   exp 0.88 / 1.13, log 0.89, tanh 1.35, erf 1.04 / 1.34, sigmoid 2.31, softplus 2.18 / 2.95;
//   Phi 3.6 / 3.9 above -1.4, 6.5 / 7.7 in the tail

/// c[0] + c[1] x + ... by Horner's rule.
template <int kTerms>
QM_INLINE VecF64 polynomial(VecF64 x, const double (&c)[kTerms]) {
  VecF64 p = splat(c[kTerms - 1]);
  for (int k = kTerms - 2; k >= 0; k--) p = mul_add(p, x, splat(c[k]));
  return p;
}

/// e^(x + low), low at most a rounding error of x: overflows to infinity, underflows through the subnormals,
/// keeps NaN.
QM_INLINE VecF32 exp_of(VecF32 x, VecF32 low) {
  x = at_least(at_most(x, splat(89.0f)), splat(-104.0f));
  // n = round(x / ln 2): adding 1.5 * 2^23 and taking it away again leaves an integer
  const VecF32 n = mul_add(x, splat(1.44269504f), splat(12582912.0f)) - splat(12582912.0f);
  const VecF32 r = mul_add(n, splat(2.12194440e-4f), mul_add(n, splat(-0.693359375f), x)) + low;
  // (e^r - 1 - r) / r^2, minimax on |r| <= ln 2 / 2 (3e-9 of e^r)
  VecF32 p = mul_add(r, splat(1.381460184e-3f), splat(8.368715219e-3f));
  p = mul_add(p, r, splat(4.166838789e-2f));
  p = mul_add(p, r, splat(1.666652065e-1f));
  p = mul_add(p, r, splat(4.999999345e-1f));
  p = mul_add(p, r, splat(1.0f));
  return times_power_of_2(mul_add(p, r, splat(1.0f)), n);
}
QM_INLINE VecF64 exp_of(VecF64 x, VecF64 low) {
  x = at_least(at_most(x, splat(710.0)), splat(-746.0));
  const VecF64 n =
      mul_add(x, splat(1.44269504088896340736), splat(6755399441055744.0)) - splat(6755399441055744.0);
  VecF64 r = mul_add(n, splat(-6.93147180369123816490e-1), x);
  r = mul_add(n, splat(-1.90821492927058770002e-10), r) + low;
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
  return times_power_of_2(polynomial(r, inverse_factorials), n);
}
template <class V>
QM_INLINE V exp_of(V x) {
  return exp_of(x, same(x, 0));
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

/// y + log(1 + t) for t in [0, 1]: t + t^2 P(t), P minimax (5e-9 of the result).
QM_INLINE VecF32 add_log1p(VecF32 y, VecF32 t) {
  VecF32 p = mul_add(t, splat(-3.318469628e-3f), splat(2.020457184e-2f));
  p = mul_add(p, t, splat(-5.766441981e-2f));
  p = mul_add(p, t, splat(0.1068055307f));
  p = mul_add(p, t, splat(-0.153553949f));
  p = mul_add(p, t, splat(0.1969540008f));
  p = mul_add(p, t, splat(-0.2495858734f));
  p = mul_add(p, t, splat(0.3333051131f));
  p = mul_add(p, t, splat(-0.4999993276f));
  p = mul_add(p, t, splat(1.0f));
  return mul_add(p, t, y);
}
QM_INLINE VecF64 add_log1p(VecF64 y, VecF64 t) {
  return y + per_lane(t, [](double v) { return std::log1p(v); });
}

QM_INLINE VecF32 abs_of(VecF32 x) { return as_float(as_int(x) & splat(int32_t{0x7fffffff})); }
QM_INLINE VecF64 abs_of(VecF64 x) { return as_float(as_int(x) & splat(int64_t{0x7fffffffffffffff})); }

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

/// e^(-scale x^2), scale a power of 2. The rounding error of the square is put back: it would cost x^2 units.
template <class V>
QM_INLINE V gauss(V x, double scale) {
  const V square = x * x, s = same(x, -scale);
  return exp_of(square * s, square_rest(x, square) * s);
}

/// e^(t^2) erfc(t) for 0 <= t <= 10.5: P(s) w with w = 1 / (t + 2) and s = t w, P minimax (4e-9). It is nearly exact
/// at 0, where half of it is added to nothing smaller.
QM_INLINE VecF32 erfc_scaled(VecF32 t) {
  const VecF32 w = splat(1.0f) / (t + splat(2.0f));
  const VecF32 s = t * w;
  VecF32 p = mul_add(s, splat(7.116642067e-2f), splat(-0.33113238f));
  p = mul_add(p, s, splat(0.5381936211f));
  p = mul_add(p, s, splat(-0.3466957756f));
  p = mul_add(p, s, splat(0.1848256864f));
  p = mul_add(p, s, splat(-0.2472143661f));
  p = mul_add(p, s, splat(-0.186629802f));
  p = mul_add(p, s, splat(0.4221478693f));
  p = mul_add(p, s, splat(0.9730343743f));
  p = mul_add(p, s, splat(-2.513517943f));
  return mul_add(p, s, splat(2.0f)) * w;
}
/// The same for 0 <= t <= 28, in powers of (t - 3) / (t + 3) through Chebyshev nodes (2e-17).
QM_TABLE double kErfcScaled[] = {
    1.0740069070883397057,       -0.8833944531698837635,    0.59022835710410036362,
    -0.31046726190055267512,     0.11952776128738794438,    -0.026827234624950196007,
    -0.0012124166297047624387,   0.0030340620079733291521,  -0.00054830965957788496866,
    -0.0002767778983471239352,   0.00010756124911146757533, 0.000030398391001005667489,
    -0.000017469493531903411468, -4.7497832458252700394e-6, 2.7623356535497896972e-6,
    9.9950120886311850571e-7,    -4.0247942021736004363e-7, -2.3318719338409497121e-7,
    4.0092594103050527308e-8,    4.8813017932609655367e-8,  2.482956226530574567e-9,
    -6.3843044682344380164e-9,   -1.613184900032559734e-9,
};
QM_INLINE VecF64 erfc_scaled(VecF64 t) {
  const VecF64 w = splat(1.0) / (t + splat(3.0));
  return polynomial((t - splat(3.0)) * w, kErfcScaled) * w;
}
/// erf(x) / x - 1 in powers of x^2 on [0, 1], fitted at Chebyshev nodes (4e-11).
QM_INLINE VecF32 erf_series(VecF32 z) {
  VecF32 p = mul_add(z, splat(-9.667044571e-6f), splat(1.126595903e-4f));
  p = mul_add(p, z, splat(-8.484080406e-4f));
  p = mul_add(p, z, splat(5.221031808e-3f));
  p = mul_add(p, z, splat(-2.686543073e-2f));
  p = mul_add(p, z, splat(0.112837825f));
  p = mul_add(p, z, splat(-0.3761263847f));
  return mul_add(p, z, splat(0.1283791671f));
}
/// The same to 1.5e-19.
QM_TABLE double kErfSeries[] = {
    0.1283791670955125738,     -0.37612638903183748056,     0.11283791670954878666,
    -0.026866170645076793248,  0.0052239776248180144673,    -0.00085483269808337899052,
    0.00012055331111642710923, -0.000014925595266831181565, 1.6461000484121368033e-6,
    -1.6350312701054695011e-7, 1.4659775274047435814e-8,    -1.137284885679167367e-9,
    5.9571761477489114044e-11,
};
QM_INLINE VecF64 erf_series(VecF64 z) { return polynomial(z, kErfSeries); }

/// Where erfc has vanished: beyond, it is evaluated here.
QM_INLINE VecF32 erfc_end(VecF32) { return splat(10.5f); }
QM_INLINE VecF64 erfc_end(VecF64) { return splat(28.0); }

template <class V>
QM_INLINE V erf_of(V x) {
  const V a = abs_of(x);
  const V t = at_most(a, erfc_end(x));
  const V large = same(x, 1) - erfc_scaled(t) * gauss(t, 1);
  return a < 1 ? mul_add(x, erf_series(x * x), x) : (x < 0 ? -large : large);
}

/// Standard normal distribution function, Phi(x) = erfc(-x / sqrt 2) / 2, accurate in both tails; `bell` becomes
/// e^(-x^2 / 2), which its derivative is made of.
template <class V>
QM_INLINE V normal_cdf(V x, V* bell) {
  const V a = abs_of(x);
  const V t = at_most(a * same(x, 0.70710678118654752440), erfc_end(x));
  // of x itself: rounding x / sqrt 2 would change it by x^2 units
  *bell = gauss(at_most(a, erfc_end(x) * same(x, 1.5)), 0.5);
  const V tail = erfc_scaled(t) * (*bell * same(x, 0.5));
  return x < 0 ? tail : same(x, 1) - tail;
}

/// log(1 + e^x); the identity above 20, as the reference model has it. `slope` becomes its derivative.
template <class V>
QM_INLINE V softplus_of(V x, V* slope) {
  const V t = exp_of(-abs_of(x));
  const V y = add_log1p(at_least(x, same(x, 0)), t);
  *slope = x > 20 ? same(x, 1) : (x < 0 ? t : same(x, 1)) / (t + 1);
  return x > 20 ? x : y;
}
template <class V>
QM_INLINE V softplus_of(V x) {
  V slope;
  return softplus_of(x, &slope);
}
