// A bilinear warp of uint8 images: one affine map per image, float32 out. Compiled for a number of channels and a fill,
// LAMINA_CHANNELS and LAMINA_FILL.
//
// An image's channels are first packed into one 32-bit word per pixel, with a border of one pixel around: the edge's own
// pixels, or zeros. A place then needs four words whatever the number of channels, and no test for the border: places
// are clamped to it. The arithmetic is float32 as in torch's grid_sample.
#include <cmath>
#include <cstdint>
#include <cstdlib>
#if defined(__AVX512F__) || defined(__AVX2__)
#include <immintrin.h>
#endif

namespace {

constexpr int edge = 0, reflect = 1, zero = 2;
// With both known, the loop over a row's places is free of branches and becomes vector code.
constexpr int channels = LAMINA_CHANNELS, fill = LAMINA_FILL;
static_assert(channels >= 1 && channels <= 4 && fill >= edge && fill <= zero, "what warp.py compiles");

void pack(const uint8_t* image, uint32_t* words, int64_t height, int64_t width) {
    const int64_t pitch = width + 2, plane = height * width;
    for (int64_t y = 0; y < height; ++y) {
        uint32_t* to = words + (y + 1) * pitch + 1;
        const uint8_t* from = image + y * width;
        for (int64_t x = 0; x < width; ++x) {
            uint32_t word = from[x];
            if (channels > 1) word |= static_cast<uint32_t>(from[x + plane]) << 8;
            if (channels > 2) word |= static_cast<uint32_t>(from[x + 2 * plane]) << 16;
            if (channels > 3) word |= static_cast<uint32_t>(from[x + 3 * plane]) << 24;
            to[x] = word;
        }
        to[-1] = fill == zero ? 0 : to[0];
        to[width] = fill == zero ? 0 : to[width - 1];
    }
    uint32_t* last = words + (height + 1) * pitch;
    for (int64_t x = 0; x < pitch; ++x) {
        words[x] = fill == zero ? 0 : words[pitch + x];
        last[x] = fill == zero ? 0 : last[x - pitch];
    }
}

// A place mirrored about the outer edges of the border pixels, -1/2 and size - 1/2.
inline float mirrored(float place, float size) {
    float from = std::fabs(place + 0.5f);
    from -= std::floor(from / (2.0f * size)) * (2.0f * size);
    return (from > size ? 2.0f * size - from : from) - 0.5f;
}

#if defined(__AVX512F__)
constexpr int64_t lanes = 16;
#elif defined(__AVX2__) && defined(__FMA__)
constexpr int64_t lanes = 8;
#else
constexpr int64_t lanes = int64_t{1} << 62;  // no vectors
#endif

inline float held(float place, float low, float high) { return place < low ? low : place > high ? high : place; }

void sample(const uint32_t* words, float* __restrict out, const float* map, int64_t height, int64_t width,
            int32_t* __restrict index, float* __restrict right, float* __restrict below) {
    const int64_t pitch = width + 2, plane = height * width;
    const float middle_x = 0.5f * static_cast<float>(width - 1), middle_y = 0.5f * static_cast<float>(height - 1);
    const float low = fill == zero ? -1.0f : 0.0f;
    const float high_x = static_cast<float>(fill == zero ? width : width - 1);
    const float high_y = static_cast<float>(fill == zero ? height : height - 1);
    const float size_x = static_cast<float>(width), size_y = static_cast<float>(height);
    const int32_t last_x = static_cast<int32_t>(width), last_y = static_cast<int32_t>(height);
    for (int64_t y = 0; y < height; ++y) {
        const float down = static_cast<float>(y) - middle_y;
        const float start_x = map[1] * down + map[2] + middle_x, start_y = map[4] * down + map[5] + middle_y;
        for (int64_t x = 0; x < width; ++x) {
            const float across = static_cast<float>(x) - middle_x;
            float at_x = map[0] * across + start_x, at_y = map[3] * across + start_y;
            if (fill == reflect) at_x = mirrored(at_x, size_x), at_y = mirrored(at_y, size_y);
            at_x = held(at_x, low, high_x) + 1.0f;  // the packed image begins one pixel earlier
            at_y = held(at_y, low, high_y) + 1.0f;
            int32_t left = static_cast<int32_t>(at_x), top = static_cast<int32_t>(at_y);
            left = left > last_x ? last_x : left < 0 ? 0 : left;  // also what is not a number stays inside
            top = top > last_y ? last_y : top < 0 ? 0 : top;
            right[x] = at_x - static_cast<float>(left);
            below[x] = at_y - static_cast<float>(top);
            index[x] = top * static_cast<int32_t>(pitch) + left;
        }
        float* row = out + y * width;
        int64_t x = 0;
#if defined(__AVX512F__)
        // The last vector overlaps the one before it rather than leave a rest: the same values are stored twice.
        for (int64_t next = 0; width >= lanes && next < width; next += lanes) {
            x = next + lanes <= width ? next : width - lanes;
            const __m512i at = _mm512_loadu_si512(index + x);
            const __m512 r = _mm512_loadu_ps(right + x), b = _mm512_loadu_ps(below + x);
            const __m512i w00 = _mm512_i32gather_epi32(at, words, 4), w01 = _mm512_i32gather_epi32(at, words + 1, 4);
            const __m512i w10 = _mm512_i32gather_epi32(at, words + pitch, 4);
            const __m512i w11 = _mm512_i32gather_epi32(at, words + pitch + 1, 4);
            const __m512i mask = _mm512_set1_epi32(255);
#pragma GCC unroll 4
            for (int c = 0; c < channels; ++c) {
                const __m512 v00 = _mm512_cvtepi32_ps(_mm512_and_si512(_mm512_srli_epi32(w00, 8 * c), mask));
                const __m512 v01 = _mm512_cvtepi32_ps(_mm512_and_si512(_mm512_srli_epi32(w01, 8 * c), mask));
                const __m512 v10 = _mm512_cvtepi32_ps(_mm512_and_si512(_mm512_srli_epi32(w10, 8 * c), mask));
                const __m512 v11 = _mm512_cvtepi32_ps(_mm512_and_si512(_mm512_srli_epi32(w11, 8 * c), mask));
                const __m512 upper = _mm512_fmadd_ps(r, _mm512_sub_ps(v01, v00), v00);
                const __m512 lower = _mm512_fmadd_ps(r, _mm512_sub_ps(v11, v10), v10);
                _mm512_storeu_ps(row + c * plane + x, _mm512_fmadd_ps(b, _mm512_sub_ps(lower, upper), upper));
            }
        }
#elif defined(__AVX2__) && defined(__FMA__)
        for (int64_t next = 0; width >= lanes && next < width; next += lanes) {
            x = next + lanes <= width ? next : width - lanes;
            const __m256i at = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(index + x));
            const __m256 r = _mm256_loadu_ps(right + x), b = _mm256_loadu_ps(below + x);
            const int* base = reinterpret_cast<const int*>(words);
            const __m256i w00 = _mm256_i32gather_epi32(base, at, 4), w01 = _mm256_i32gather_epi32(base + 1, at, 4);
            const __m256i w10 = _mm256_i32gather_epi32(base + pitch, at, 4);
            const __m256i w11 = _mm256_i32gather_epi32(base + pitch + 1, at, 4);
            const __m256i mask = _mm256_set1_epi32(255);
#pragma GCC unroll 4
            for (int c = 0; c < channels; ++c) {
                const __m256 v00 = _mm256_cvtepi32_ps(_mm256_and_si256(_mm256_srli_epi32(w00, 8 * c), mask));
                const __m256 v01 = _mm256_cvtepi32_ps(_mm256_and_si256(_mm256_srli_epi32(w01, 8 * c), mask));
                const __m256 v10 = _mm256_cvtepi32_ps(_mm256_and_si256(_mm256_srli_epi32(w10, 8 * c), mask));
                const __m256 v11 = _mm256_cvtepi32_ps(_mm256_and_si256(_mm256_srli_epi32(w11, 8 * c), mask));
                const __m256 upper = _mm256_fmadd_ps(r, _mm256_sub_ps(v01, v00), v00);
                const __m256 lower = _mm256_fmadd_ps(r, _mm256_sub_ps(v11, v10), v10);
                _mm256_storeu_ps(row + c * plane + x, _mm256_fmadd_ps(b, _mm256_sub_ps(lower, upper), upper));
            }
        }
#endif
        x = width >= lanes ? width : 0;
        for (; x < width; ++x) {
            const uint32_t* at = words + index[x];
            const uint32_t w00 = at[0], w01 = at[1], w10 = at[pitch], w11 = at[pitch + 1];
            for (int c = 0; c < channels; ++c) {
                const float v00 = static_cast<float>((w00 >> (8 * c)) & 255u), v01 = static_cast<float>((w01 >> (8 * c)) & 255u);
                const float v10 = static_cast<float>((w10 >> (8 * c)) & 255u), v11 = static_cast<float>((w11 >> (8 * c)) & 255u);
                const float upper = v00 + right[x] * (v01 - v00), lower = v10 + right[x] * (v11 - v10);
                row[c * plane + x] = upper + below[x] * (lower - upper);
            }
        }
    }
}

void warp(const uint8_t* images, float* out, const float* maps, int64_t batch, int64_t height, int64_t width, uint32_t* words,
          int32_t* index, float* right, float* below) {
    const int64_t size = channels * height * width;
    for (int64_t number = 0; number < batch; ++number) {
        pack(images + number * size, words, height, width);
        sample(words, out + number * size, maps + number * 6, height, width, index, right, below);
    }
}

}  // namespace

// Warps a batch; 0: done, 1: no memory.
extern "C" int32_t lamina_warp(const uint8_t* images, float* out, const float* maps, int64_t batch, int64_t height,
                               int64_t width) {
    const int64_t cells = (height + 2) * (width + 2);
    uint32_t* words = static_cast<uint32_t*>(std::calloc(static_cast<std::size_t>(cells + 3 * width), 4));
    if (words == nullptr) return 1;
    int32_t* index = reinterpret_cast<int32_t*>(words + cells);
    float* right = reinterpret_cast<float*>(index + width);
    warp(images, out, maps, batch, height, width, words, index, right, right + width);
    std::free(words);
    return 0;
}
