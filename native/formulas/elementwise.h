// Elementwise functions and their derivatives, each once. `forward(x)`; `backward(v, dy)` where v is x or y,
// as the op's declaration in lib/ops saves. Included inside a device's namespace, as formulas/math.h is.

#include "formulas/math.h"

#define QM_FORMULA(Name, forward_expression, backward_expression) \
  struct Name {                                                   \
    template <class V>                                            \
    QM_INLINE V forward(V x) {                                    \
      return forward_expression;                                  \
    }                                                             \
    template <class V>                                            \
    QM_INLINE V backward(V v, V dy) {                             \
      return backward_expression;                                 \
    }                                                             \
  };

QM_FORMULA(Exp, exp_of(x), dy* v)                    // v = y
QM_FORMULA(Log, log_of(x), dy / v)                   // v = x
QM_FORMULA(Sqrt, sqrt_of(x), dy / (v + v))           // v = y
QM_FORMULA(Rsqrt, 1 / sqrt_of(x), dy* v* v* v / -2)  // v = y
QM_FORMULA(Abs, abs_of(x), v < 0 ? -dy : (v > 0 ? dy : same(v, 0)))
QM_FORMULA(Neg, -x, -dy)
QM_FORMULA(Tanh, tanh_of(x), dy * (1 - v * v))       // v = y
QM_FORMULA(Sigmoid, sigmoid_of(x), dy* v * (1 - v))  // v = y
QM_FORMULA(Relu, x <= 0 ? same(x, 0) : x, v > 0 ? dy : same(v, 0))
QM_FORMULA(Softplus, softplus_of(x), v > 20 ? dy : dy * sigmoid_of(v))

/// erf'(x) = 2 / sqrt(pi) e^(-x^2)
QM_FORMULA(Erf, erf_of(x), dy* exp_of(-v* v) * same(v, 1.12837916709551257390))

/// silu(x) = x s(x); derivative s + x s (1 - s)
struct Silu {
  template <class V>
  QM_INLINE V forward(V x) {
    return x * sigmoid_of(x);
  }
  template <class V>
  QM_INLINE V backward(V x, V dy) {
    const V s = sigmoid_of(x);
    return dy * (s + x * s * (1 - s));
  }
};

/// gelu(x) = x Phi(x); derivative Phi(x) + x phi(x)
struct Gelu {
  template <class V>
  QM_INLINE V forward(V x) {
    V bell;
    return x * normal_cdf(x, &bell);
  }
  template <class V>
  QM_INLINE V backward(V x, V dy) {
    V bell;
    const V cdf = normal_cdf(x, &bell);
    return dy * mul_add(x * same(x, 0.39894228040143267794), bell, cdf);
  }
};

#undef QM_FORMULA
