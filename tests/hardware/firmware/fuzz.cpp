// Random and damaged bytes into the firmware's protocol; built with the address and undefined sanitizers.
//
//     fuzz BYTES SEED
//
// After every stretch of garbage a whole command must be understood at once, since its first byte is >= 0x80;
// values must stay in their ranges and answers in their room. Exit 0: all held; the count goes to stdout.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "facetwin_protocol.h"

using namespace facetwin;

static uint64_t state;
static uint32_t draw(uint32_t n) {  // xorshift64*
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return static_cast<uint32_t>((state * 2685821657736338717ULL) >> 33) % n;
}

static void fail(const char* what, unsigned long at) {
    fprintf(stderr, "byte %lu: %s\n", at, what);
    exit(1);
}

template <uint8_t N>
static void check(const Protocol<N>& p, unsigned long at) {
    for (uint8_t b = 0; b < N; b++) {
        for (uint8_t i = 0; i < kChannels; i++) {
            const Channel& c = p.boards[b].channels[i];
            if (c.target > kMaxPulse || c.position() > kMaxPulse || c.place < 0) fail("a pulse out of range", at);
            if (c.speed > kMaxPulse) fail("a speed out of range", at);
            if (p.counts(b, i) > 4095) fail("counts out of range", at);
            if (c.target == 0 && c.position() != 0) fail("pulses without a target", at);
        }
        if (p.boards[b].errors & ~(kBufferFull | kCrcError | kProtocolError | kTimeout)) fail("an unknown error", at);
    }
}

// A whole, right command, perhaps a question; returns its length, `channel` and `target` of a Set Target.
static size_t right(uint8_t* out, bool crc, int* board, int* channel, int* target) {
    *board = static_cast<int>(draw(2));
    *channel = static_cast<int>(draw(kChannels));
    *target = static_cast<int>(draw(kMaxPulse + 1));
    size_t n = 0;
    out[n++] = kPololu;
    out[n++] = static_cast<uint8_t>(kFirstDevice + *board);
    out[n++] = kSetTarget & 0x7F;
    out[n++] = static_cast<uint8_t>(*channel);
    out[n++] = *target & 0x7F;
    out[n++] = static_cast<uint8_t>(*target >> 7);
    if (crc) {
        out[n] = crc7(out, n);
        n++;
    }
    return n;
}

static size_t garbage(uint8_t* out, bool crc) {
    static const uint8_t commands[] = {kSetTarget, kSetSpeed, kSetAcceleration, kGetPosition, kGetMovingState,
                                       kSetMultipleTargets, kGetErrors, kGoHome, kPololu, 0xFF, 0x80};
    size_t n = 0;
    switch (draw(4)) {
        case 0:  // noise
            for (size_t size = draw(40); n < size;) out[n++] = static_cast<uint8_t>(draw(256));
            return n;
        case 1:  // a command and noise
            out[n++] = commands[draw(sizeof(commands))];
            for (size_t size = draw(80); n < size;) out[n++] = static_cast<uint8_t>(draw(128));
            return n;
        case 2: {  // to one of us or another device, any command
            out[n++] = kPololu;
            out[n++] = static_cast<uint8_t>(draw(4) ? 12 + draw(2) : draw(128));
            if (draw(8) == 0) out[n - 1] = kController;
            out[n++] = static_cast<uint8_t>(draw(3) ? commands[draw(sizeof(commands))] & 0x7F : draw(128));
            for (size_t size = n + draw(80); n < size;) out[n++] = static_cast<uint8_t>(draw(draw(2) ? 128 : 20));
            return n;
        }
        default: {  // a right one, damaged or cut short
            int a, b, c;
            n = right(out, crc, &a, &b, &c);
            if (draw(2)) out[draw(static_cast<uint32_t>(n))] ^= static_cast<uint8_t>(1u << draw(8));
            else n = draw(static_cast<uint32_t>(n));
            return n;
        }
    }
}

static unsigned long run(bool crc, unsigned long bytes) {
    Protocol<2> p(crc, 100);
    unsigned long at = 0, understood = 0;
    uint32_t now = 0xFFFFF000u;  // the clock wraps on the way
    uint8_t buffer[128], out[16];
    while (at < bytes) {
        size_t size = garbage(buffer, crc);
        for (size_t i = 0; i < size; i++) {
            p.receive(buffer[i], now);
            at++;
            if (draw(16) == 0) p.tick();
            if (draw(64) == 0) now += draw(200), p.watch(now);
            // answers are fetched late, so that the buffer fills
            if (draw(24) == 0 && p.answer(out, 1 + draw(16)) > 16) fail("an answer without room", at);
        }
        check(p, at);
        int board, channel, target;
        size = right(buffer, crc, &board, &channel, &target);
        for (size_t i = 0; i < size; i++) p.receive(buffer[i], now);
        at += size;
        if (p.boards[board].channels[channel].target != target) fail("a whole command was not understood", at);
        understood++;
        check(p, at);
    }
    return understood;
}

int main(int argc, char** argv) {
    if (argc != 3) return 2;
    unsigned long bytes = strtoul(argv[1], nullptr, 10);
    state = strtoull(argv[2], nullptr, 10) * 2862933555777941757ULL + 3037000493ULL;
    unsigned long understood = run(false, bytes / 2) + run(true, bytes - bytes / 2);
    printf("%lu\n", understood);
    return 0;
}
