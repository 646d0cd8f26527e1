// What every generated program begins with: vectors, matrix products of sizes known at compile time, and exact integer helpers.
// Everything is a template over its sizes, so that the compiler unrolls the register tiles; nothing allocates.
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#if defined(__AVX512F__) || defined(__AVX__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

// glibc's vector versions of these functions, so that loops over them vectorise without giving up NaN and infinity.
#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__)
#define LAMINA_SIMD __attribute__((simd("notinbranch"), const, nothrow, leaf))
extern "C" {
LAMINA_SIMD float expf(float);
LAMINA_SIMD double exp(double);
LAMINA_SIMD float logf(float);
LAMINA_SIMD double log(double);
LAMINA_SIMD float sinf(float);
LAMINA_SIMD double sin(double);
LAMINA_SIMD float cosf(float);
LAMINA_SIMD double cos(double);
#if __GLIBC_PREREQ(2, 35)
LAMINA_SIMD float tanhf(float);
LAMINA_SIMD double tanh(double);
LAMINA_SIMD float erff(float);
LAMINA_SIMD double erf(double);
LAMINA_SIMD float expm1f(float);
LAMINA_SIMD double expm1(double);
LAMINA_SIMD float log1pf(float);
LAMINA_SIMD double log1p(double);
#endif
}
#endif

namespace {

#if defined(__AVX512F__)
constexpr int vector_bytes = 64;
constexpr int num_registers = 32;
#elif defined(__AVX__)
constexpr int vector_bytes = 32;
constexpr int num_registers = 16;
#elif defined(__aarch64__)
constexpr int vector_bytes = 16;
constexpr int num_registers = 32;
#else
constexpr int vector_bytes = 16;
constexpr int num_registers = 16;
#endif

template <typename T>
struct Simd {
    typedef T Vec __attribute__((vector_size(vector_bytes), aligned(sizeof(T)), may_alias));
    static constexpr int lanes = vector_bytes / sizeof(T);

    static inline Vec load(const T* p) { return *reinterpret_cast<const Vec*>(p); }
    static inline void store(T* p, Vec v) { *reinterpret_cast<Vec*>(p) = v; }
    static inline Vec splat(T x) { return Vec{} + x; }
    // c + a * b, rounded once where the processor can; said here because the compiler contracts nothing else.
    static inline Vec multiply_add(Vec a, Vec b, Vec c) { return c + a * b; }

    // The first `n` lanes (0 < n < lanes); the others are zero and not read.
    static inline Vec load_part(const T* p, int n) {
        Vec v{};
        std::memcpy(&v, p, static_cast<std::size_t>(n) * sizeof(T));
        return v;
    }
    static inline void store_part(T* p, Vec v, int n) { std::memcpy(p, &v, static_cast<std::size_t>(n) * sizeof(T)); }

    static inline T sum(Vec v) {
        T parts[lanes];
        std::memcpy(parts, &v, sizeof(v));
        for (int half = lanes / 2; half > 0; half /= 2)
            for (int i = 0; i < half; ++i) parts[i] += parts[i + half];
        return parts[0];
    }
};

#if defined(__AVX512F__)
template <>
inline Simd<float>::Vec Simd<float>::multiply_add(Vec a, Vec b, Vec c) {
    return (Vec)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
}
template <>
inline Simd<double>::Vec Simd<double>::multiply_add(Vec a, Vec b, Vec c) {
    return (Vec)_mm512_fmadd_pd((__m512d)a, (__m512d)b, (__m512d)c);
}
#elif defined(__AVX__) && defined(__FMA__)
template <>
inline Simd<float>::Vec Simd<float>::multiply_add(Vec a, Vec b, Vec c) {
    return (Vec)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
}
template <>
inline Simd<double>::Vec Simd<double>::multiply_add(Vec a, Vec b, Vec c) {
    return (Vec)_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)c);
}
#elif defined(__aarch64__)
template <>
inline Simd<float>::Vec Simd<float>::multiply_add(Vec a, Vec b, Vec c) {
    return (Vec)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
}
template <>
inline Simd<double>::Vec Simd<double>::multiply_add(Vec a, Vec b, Vec c) {
    return (Vec)vfmaq_f64((float64x2_t)c, (float64x2_t)a, (float64x2_t)b);
}
#endif

#if defined(__AVX512F__)
template <>
inline Simd<float>::Vec Simd<float>::load_part(const float* p, int n) {
    return (Vec)_mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << n) - 1u), p);
}
template <>
inline void Simd<float>::store_part(float* p, Vec v, int n) {
    _mm512_mask_storeu_ps(p, static_cast<__mmask16>((1u << n) - 1u), (__m512)v);
}
template <>
inline float Simd<float>::sum(Vec v) {
    return _mm512_reduce_add_ps((__m512)v);
}
#endif

// C (rows x columns, leading dimension `ldc`) = A B with B's rows contiguous: A is broadcast, vectors run along the columns.
// `tail`: lanes in the last vector of columns (0: all).
template <typename T, int MR, int NV, int K, int64_t RSA, int64_t CSA, int64_t RSB, int tail>
inline void tile_rows(const T* __restrict a, const T* __restrict b, T* __restrict c, int64_t ldc) {
    using S = Simd<T>;
    typename S::Vec acc[MR][NV] = {};
#pragma GCC unroll 2
    for (int k = 0; k < K; ++k) {
        typename S::Vec bv[NV];
#pragma GCC unroll 8
        for (int v = 0; v < NV; ++v)
            bv[v] = (tail && v == NV - 1) ? S::load_part(b + k * RSB + v * S::lanes, tail) : S::load(b + k * RSB + v * S::lanes);
#pragma GCC unroll 32
        for (int r = 0; r < MR; ++r) {
            const typename S::Vec av = S::splat(a[r * RSA + k * CSA]);
#pragma GCC unroll 8
            for (int v = 0; v < NV; ++v) acc[r][v] = S::multiply_add(av, bv[v], acc[r][v]);
        }
    }
#pragma GCC unroll 32
    for (int r = 0; r < MR; ++r)
#pragma GCC unroll 8
        for (int v = 0; v < NV; ++v) {
            T* to = c + r * ldc + v * S::lanes;
            if (tail && v == NV - 1)
                S::store_part(to, acc[r][v], tail);
            else
                S::store(to, acc[r][v]);
        }
}

template <typename T, int M, int NV, int K, int64_t RSA, int64_t CSA, int64_t RSB, int tail>
inline void column_block(const T* a, const T* b, T* c, int64_t ldc) {
    constexpr int most = (num_registers - NV - 1) / NV;
    constexpr int cap = most < 12 ? most : 12;
    constexpr int blocks = (M + cap - 1) / cap;
    constexpr int MR = (M + blocks - 1) / blocks;  // even tiles: 16 rows are 8 + 8, not 12 + 4
    int m = 0;
    for (; m + MR <= M; m += MR) tile_rows<T, MR, NV, K, RSA, CSA, RSB, tail>(a + m * RSA, b, c + m * ldc, ldc);
    constexpr int left = M % MR;
    if constexpr (left > 0) tile_rows<T, left, NV, K, RSA, CSA, RSB, tail>(a + m * RSA, b, c + m * ldc, ldc);
}

// B (K x N) has contiguous rows; A has any strides.
template <typename T, int M, int N, int K, int64_t RSA, int64_t CSA, int64_t RSB>
inline void product_rows(const T* a, const T* b, T* c) {
    constexpr int lanes = Simd<T>::lanes;
    constexpr int NV = (N >= 3 * lanes && num_registers >= 32) ? 3 : (N >= 2 * lanes ? 2 : 1);
    constexpr int width = NV * lanes;
    int n = 0;
    for (; n + width <= N; n += width) column_block<T, M, NV, K, RSA, CSA, RSB, 0>(a, b + n, c + n, N);
    constexpr int left = N % width;
    if constexpr (left > 0) {
        constexpr int vectors = (left + lanes - 1) / lanes;
        column_block<T, M, vectors, K, RSA, CSA, RSB, left % lanes>(a, b + n, c + n, N);
    }
}

// Dot products along k, which is contiguous in both A and B (B is a transposed view).
template <typename T, int MR, int NR, int K, int64_t RSA, int64_t CSB>
inline void tile_dots(const T* __restrict a, const T* __restrict b, T* __restrict c, int64_t ldc) {
    using S = Simd<T>;
    typename S::Vec acc[MR][NR] = {};
    int k = 0;
    for (; k + S::lanes <= K; k += S::lanes) {
        typename S::Vec bv[NR];
#pragma GCC unroll 8
        for (int j = 0; j < NR; ++j) bv[j] = S::load(b + j * CSB + k);
#pragma GCC unroll 8
        for (int r = 0; r < MR; ++r) {
            const typename S::Vec av = S::load(a + r * RSA + k);
#pragma GCC unroll 8
            for (int j = 0; j < NR; ++j) acc[r][j] = S::multiply_add(av, bv[j], acc[r][j]);
        }
    }
    constexpr int left = K % S::lanes;
    if constexpr (left > 0) {
        typename S::Vec bv[NR];
        for (int j = 0; j < NR; ++j) bv[j] = S::load_part(b + j * CSB + k, left);
        for (int r = 0; r < MR; ++r) {
            const typename S::Vec av = S::load_part(a + r * RSA + k, left);
            for (int j = 0; j < NR; ++j) acc[r][j] = S::multiply_add(av, bv[j], acc[r][j]);
        }
    }
    for (int r = 0; r < MR; ++r)
        for (int j = 0; j < NR; ++j) c[r * ldc + j] = S::sum(acc[r][j]);
}

template <typename T, int MR, int N, int K, int64_t RSA, int64_t CSB>
inline void dots_row_block(const T* a, const T* b, T* c) {
    constexpr int NR = N < 4 ? N : 4;
    int n = 0;
    for (; n + NR <= N; n += NR) tile_dots<T, MR, NR, K, RSA, CSB>(a, b + n * CSB, c + n, N);
    constexpr int left = N % NR;
    if constexpr (left > 0) tile_dots<T, MR, left, K, RSA, CSB>(a, b + n * CSB, c + n, N);
}

template <typename T, int M, int N, int K, int64_t RSA, int64_t CSB>
inline void product_dots(const T* a, const T* b, T* c) {
    constexpr int most = num_registers >= 32 ? 6 : 2;
    constexpr int blocks = (M + most - 1) / most;
    constexpr int MR = (M + blocks - 1) / blocks;
    int m = 0;
    for (; m + MR <= M; m += MR) dots_row_block<T, MR, N, K, RSA, CSB>(a + m * RSA, b, c + static_cast<int64_t>(m) * N);
    constexpr int left = M % MR;
    if constexpr (left > 0) dots_row_block<T, left, N, K, RSA, CSB>(a + m * RSA, b, c + static_cast<int64_t>(m) * N);
}

// Any strides; for the rare case where neither operand is laid out kindly.
template <typename T, int M, int N, int K, int64_t RSA, int64_t CSA, int64_t RSB, int64_t CSB>
inline void product_any(const T* __restrict a, const T* __restrict b, T* __restrict c) {
    for (int64_t m = 0; m < M; ++m)
        for (int64_t n = 0; n < N; ++n) {
            T sum = 0;
            for (int64_t k = 0; k < K; ++k) sum += a[m * RSA + k * CSA] * b[k * RSB + n * CSB];
            c[m * N + n] = sum;
        }
}

// An index that is out of bounds is noted and replaced by 0, so that nothing outside the tensor is touched.
inline int64_t checked(int64_t index, int64_t size, int64_t& fault) {
    const int64_t wrapped = index < 0 ? index + size : index;
    const bool good = wrapped >= 0 && wrapped < size;
    fault |= !good;
    return good ? wrapped : 0;
}

template <typename T>
inline T floor_mod(T a, T b) {
    if constexpr (std::numeric_limits<T>::is_integer) {
        const T r = b == 0 ? T(0) : T(a % b);
        return (r != 0 && ((r < 0) != (b < 0))) ? T(r + b) : r;
    } else {
        const T r = std::fmod(a, b);
        return (r != 0 && ((r < 0) != (b < 0))) ? r + b : r;
    }
}

template <typename T>
inline T floor_div(T a, T b) {
    if constexpr (std::numeric_limits<T>::is_integer) {
        if (b == 0) return T(0);
        const T q = T(a / b);
        return (a % b != 0 && ((a < 0) != (b < 0))) ? T(q - 1) : q;
    } else {
        return std::floor(a / b);
    }
}

// torch's maximum and minimum hand NaN on.
template <typename T>
inline T larger(T a, T b) {
    return (a > b || a != a) ? a : b;
}
template <typename T>
inline T smaller(T a, T b) {
    return (a < b || a != a) ? a : b;
}

}  // namespace
