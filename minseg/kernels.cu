// Sliding windows and max pooling on the graphics card, for Real = float or double.
//
// One thread computes one number of a plane; blockIdx.y is its channel and blockIdx.z its image.
// No two threads write the same number, and each adds up in a fixed order: the same bits every time.
//
// Shapes: x (N, C, H, W), y (N, C, OH, OW) with OH = rows.size and OW = cols.size,
// columns (C, KH, KW, N, last - first, OW): the windows of output rows first .. last - 1.
// A pixel's number in its plane is an int (cuda.py serves planes of less than 2^30 pixels), a
// number's place in an array a long long.

struct Axis { int start, step, hop, taps, size; };  // output i reads, at tap t, start + step*i + hop*t
struct Windows { int N, C, H, W; Axis rows, cols; int first, last; };

#define FOR_EACH(n, c, pixel, pixels)                                             \
    for (int n = blockIdx.z; n < g.N; n += gridDim.z)                             \
        for (int c = blockIdx.y; c < g.C; c += gridDim.y)                         \
            for (int pixel = blockIdx.x * blockDim.x + threadIdx.x; pixel < (pixels); \
                 pixel += gridDim.x * blockDim.x)

__device__ long long plane(const Windows& g, int n, int c, int pixels) {
    return ((long long)n * g.C + c) * pixels;
}

__device__ int quotient(int a, int b) {  // most steps are 1, and a division costs 20 instructions
    return b == 1 ? a : a / b;
}

// The outputs whose windows reach over position p of the source: first_reader .. last_reader.
__device__ int first_reader(const Axis& a, int p) {
    int beyond = p - a.start - a.hop * (a.taps - 1);
    return beyond <= 0 ? 0 : quotient(beyond + a.step - 1, a.step);
}

__device__ int last_reader(const Axis& a, int p) {
    int behind = p - a.start;
    return behind < 0 ? -1 : min(quotient(behind, a.step), a.size - 1);
}

// The tap by which output i reads position p, or -1 where p lies between two taps.
__device__ int tap(const Axis& a, int i, int p) {
    int apart = p - a.start - a.step * i;
    int t = quotient(apart, a.hop);
    return t * a.hop == apart ? t : -1;
}

// columns[c,u,v,n,i,j] = x[n, c, where tap (u,v) of output (i,j) reads], 0 outside the image
extern "C" __global__ void gather(const Real* __restrict__ x, Real* __restrict__ columns, Windows g) {
    const int pixels = (g.last - g.first) * g.cols.size;
    FOR_EACH(n, c, pixel, pixels) {
        const Real* image = x + plane(g, n, c, g.H * g.W);
        Real* column = columns + ((long long)c * g.rows.taps * g.cols.taps * g.N + n) * pixels + pixel;
        int top = g.rows.start + g.rows.step * (g.first + pixel / g.cols.size);
        int left = g.cols.start + g.cols.step * (pixel % g.cols.size);
        for (int u = 0; u < g.rows.taps; ++u)
            for (int v = 0; v < g.cols.taps; ++v) {
                int h = top + g.rows.hop * u, w = left + g.cols.hop * v;
                bool inside = 0 <= h && h < g.H && 0 <= w && w < g.W;
                *column = inside ? image[h * g.W + w] : Real(0);
                column += (long long)g.N * pixels;
            }
    }
}

// x[n,c,h,w] = sum of columns[c,u,v,n,i,j] over every tap (u,v) of every output (i,j) that reads (h,w).
// When first .. last are only some of the output rows, the sum is added to what x holds.
extern "C" __global__ void scatter(const Real* __restrict__ columns, Real* __restrict__ x, Windows g) {
    const bool all = g.last - g.first == g.rows.size;
    const int low = all ? 0 : max(0, g.rows.start + g.rows.step * g.first);
    const int reach = g.rows.step * (g.last - 1) + g.rows.hop * (g.rows.taps - 1) + 1;
    const int high = all ? g.H : min(g.H, g.rows.start + reach);
    const int pixels = (g.last - g.first) * g.cols.size;
    FOR_EACH(n, c, pixel, (high - low) * g.W) {
        int h = low + pixel / g.W, w = pixel % g.W;
        const Real* source = columns
            + ((long long)c * g.rows.taps * g.cols.taps * g.N + n) * pixels;
        int top = max(first_reader(g.rows, h), g.first), left = first_reader(g.cols, w);
        Real sum = 0;
        for (int i = min(last_reader(g.rows, h), g.last - 1); i >= top; --i) {
            int u = tap(g.rows, i, h);
            for (int j = last_reader(g.cols, w); u >= 0 && j >= left; --j) {
                int v = tap(g.cols, j, w);
                if (v >= 0)
                    sum += source[((long long)u * g.cols.taps + v) * g.N * pixels
                                  + (i - g.first) * g.cols.size + j];
            }
        }
        Real* place = x + plane(g, n, c, g.H * g.W) + h * g.W + w;
        *place = all ? sum : *place + sum;
    }
}

// y[n,c,i,j] = the largest number in window (i,j), and the pixel h*W + w where it stood; of equal
// numbers the first wins, and a NaN makes the maximum NaN
extern "C" __global__ void max_pool(
    const Real* __restrict__ x, Real* __restrict__ y, int* __restrict__ places, Windows g
) {
    const int pixels = g.rows.size * g.cols.size;
    FOR_EACH(n, c, pixel, pixels) {
        const Real* image = x + plane(g, n, c, g.H * g.W);
        int top = g.rows.start + g.rows.step * (pixel / g.cols.size);
        int left = g.cols.start + g.cols.step * (pixel % g.cols.size);
        Real best = 0;
        int place = -1;
        for (int u = 0; u < g.rows.taps; ++u)
            for (int v = 0; v < g.cols.taps; ++v) {
                int h = top + g.rows.hop * u, w = left + g.cols.hop * v;
                if (h < 0 || h >= g.H || w < 0 || w >= g.W) continue;
                Real seen = image[h * g.W + w];
                if (place < 0 || seen > best) place = h * g.W + w;
                if (place == h * g.W + w || seen != seen) best = seen;
            }
        y[plane(g, n, c, pixels) + pixel] = best;
        places[plane(g, n, c, pixels) + pixel] = place;
    }
}

// dx[n,c,h,w] = sum of dy[n,c,i,j] over the windows (i,j) whose maximum stood at (h,w)
extern "C" __global__ void max_pool_gradient(
    const Real* __restrict__ dy, const int* __restrict__ places, Real* __restrict__ dx, Windows g
) {
    FOR_EACH(n, c, pixel, g.H * g.W) {
        const long long windows = plane(g, n, c, g.rows.size * g.cols.size);
        int h = pixel / g.W, w = pixel % g.W;
        int top = first_reader(g.rows, h), left = first_reader(g.cols, w);
        Real sum = 0;
        for (int i = last_reader(g.rows, h); i >= top; --i)
            for (int j = last_reader(g.cols, w); j >= left; --j) {
                long long window = windows + i * g.cols.size + j;
                if (places[window] == pixel) sum += dy[window];
            }
        dx[plane(g, n, c, g.H * g.W) + pixel] = sum;
    }
}

// owners[n, c, places[n,c,i,j]] = the last i*OW + j that goes there (owners begins as -1 everywhere).
// Unpooling's places may be any. The largest of some integers is the same in whatever order they
// come, so this atomic keeps the promise above.
extern "C" __global__ void last_owner(
    const long long* __restrict__ places, int* __restrict__ owners, Windows g
) {
    const int pixels = g.rows.size * g.cols.size;
    FOR_EACH(n, c, pixel, pixels) {
        long long place = places[plane(g, n, c, pixels) + pixel];
        atomicMax(owners + plane(g, n, c, g.H * g.W) + place, pixel);
    }
}
