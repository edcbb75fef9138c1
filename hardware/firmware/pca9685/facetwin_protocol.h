// Maestro bytes for servo chips: parser and state, without a word about any board (C++11, no heap, no floats).
//
// A controller plays several Pololu Maestros on one serial line, one for each 16-channel servo chip: device 12
// is the first one, 13 the second. It understands the compact protocol (spoken to the first one), the Pololu
// protocol and CRC-7 (Pololu Maestro Servo Controller User's Guide, sections 5.c to 5.e): Set Target, Set
// Multiple Targets, Set Speed, Set Acceleration, Get Position, Get Moving State, Get Errors, Go Home.
// No Maestro has these two, sent to device 126, so that a real Maestro on the line ignores them:
//   Get Identity   AA 7E 30         -> 'F' 'T' major minor boards channels options crc7(of those seven)
//   Set Watchdog   AA 7E 31 lo hi   outputs off after so many ms without a command to this controller; 0: never
// options: bit 0, it wants CRC-7 on every command. Another major number means another protocol.

#ifndef FACETWIN_PROTOCOL_H
#define FACETWIN_PROTOCOL_H

#include <stddef.h>
#include <stdint.h>

namespace facetwin {

const uint8_t kMajor = 1, kMinor = 0;
const uint8_t kChannels = 16;      // of a servo chip
const uint8_t kFirstDevice = 12;   // of the first chip
const uint8_t kController = 126;   // device number for what no Maestro has
const uint16_t kMaxPulse = 16383;  // 0.25 us

enum Command : uint8_t {
    kSetTarget = 0x84,
    kSetSpeed = 0x87,
    kSetAcceleration = 0x89,
    kGetPosition = 0x90,
    kGetMovingState = 0x93,
    kSetMultipleTargets = 0x9F,
    kGetErrors = 0xA1,
    kGoHome = 0xA2,
    kPololu = 0xAA,
    kGetIdentity = 0xB0,
    kSetWatchdog = 0xB1,
};

// Bits of the error register. Bit 9 is ours: the servo chip does not answer.
enum Error : uint16_t {
    kBufferFull = 1 << 2,
    kCrcError = 1 << 3,
    kProtocolError = 1 << 4,
    kTimeout = 1 << 5,
    kChipSilent = 1 << 9,
};

// Polynomial 0x91, low bit first.
inline uint8_t crc7(const uint8_t* data, size_t size) {
    uint8_t crc = 0;
    for (size_t i = 0; i < size; i++) {
        crc ^= data[i];
        for (uint8_t bit = 0; bit < 8; bit++) {
            if (crc & 1) crc ^= 0x91;
            crc >>= 1;
        }
    }
    return crc;
}

// Places are kept in eighths; the int of small boards has 16 bits.
inline int32_t eighths(uint16_t pulse) { return static_cast<int32_t>(pulse) * 8; }

// Whole part of the square root.
inline uint32_t root(uint32_t number) {
    uint32_t out = 0;
    for (uint32_t bit = 1UL << 20; bit; bit >>= 2) {  // numbers here are below 2^21
        if (number >= out + bit) {
            number -= out + bit;
            out = (out >> 1) + bit;
        } else {
            out >>= 1;
        }
    }
    return out;
}

// A pulse on its way to its target, within limits of speed and acceleration as a Maestro has them.
struct Channel {
    uint16_t target = 0;       // 0.25 us; 0: no pulses
    uint16_t speed = 0;        // 0.25 us per 10 ms; 0: no limit
    uint8_t acceleration = 0;  // 0.25 us per 10 ms per 80 ms; 0: no limit
    int32_t place = 0;         // 0.25 us / 8
    int32_t velocity = 0;      // 0.25 us / 8 per 10 ms

    uint16_t position() const { return static_cast<uint16_t>(place / 8); }
    bool moving() const { return place != eighths(target); }

    void aim(uint16_t pulse) {
        // where a servo without pulses stands, nobody knows: it goes to its first target at once
        if (pulse == 0 || place == 0 || (speed == 0 && acceleration == 0)) {
            place = eighths(pulse);
            velocity = 0;
        }
        target = pulse;
    }

    void tick() {  // 10 ms
        int32_t left = eighths(target) - place;
        if (left == 0) {
            velocity = 0;
            return;
        }
        int32_t most = eighths(speed ? speed : kMaxPulse);
        if (acceleration) {
            // the highest speed from which it can still stop there, falling by `acceleration` each tick:
            // the most n with acceleration x n (n + 1) / 2 <= way
            uint32_t way = static_cast<uint32_t>(left < 0 ? -left : left);
            uint32_t n = (root(8 * (way / acceleration) + 1) - 1) / 2;
            int32_t brake = static_cast<int32_t>(n ? n : 1) * acceleration;
            int32_t now = left < 0 ? -velocity : velocity;
            int32_t faster = now + acceleration;
            if (faster < acceleration) faster = acceleration;  // it was going the other way
            if (faster > brake) faster = brake;
            if (faster < most) most = faster;
        }
        int32_t step = left > most ? most : left < -most ? -most : left;
        velocity = step;
        place += step;
    }
};

struct Board {
    Channel channels[kChannels];
    uint16_t errors = 0;

    void off() {
        for (uint8_t i = 0; i < kChannels; i++) channels[i].aim(0);
    }
};

// Takes bytes in, keeps answers until they are fetched. `kBoards`: number of servo chips, 1 to 8.
template <uint8_t kBoards>
class Protocol {
    static_assert(kBoards >= 1 && kBoards <= 8, "1 to 8 boards");

  public:
    // crc: every command ends with a CRC-7 byte. watchdog_ms: until the driver sets another one.
    explicit Protocol(bool crc = false, uint16_t watchdog_ms = 2000) : crc_(crc), watchdog_(watchdog_ms) {}

    Board boards[kBoards];

    // One byte from the line.
    void receive(uint8_t byte, uint32_t now_ms) {
        if (byte & 0x80) {  // whatever was going on, here a command begins
            if (length_) complain(kProtocolError);
            skipping_ = false;
            length_ = 0;
            frame_[length_++] = byte;
        } else {
            if (skipping_ || !length_) return;
            if (length_ >= sizeof(frame_)) {  // cannot happen: `needed` is never longer
                drop(kProtocolError);
                return;
            }
            frame_[length_++] = byte;
        }
        if (frame_[0] == kPololu) {
            if (length_ == 2 && !addressed()) {  // for somebody else
                length_ = 0;
                skipping_ = true;
                return;
            }
            if (length_ < 3) return;
        }
        int16_t need = needed();
        if (need < 0) {
            drop(kProtocolError);
        } else if (length_ == need) {
            obey(now_ms);
            length_ = 0;
            skipping_ = true;
        }
    }

    // Fetch answers; returns how many bytes were put into `out`.
    size_t answer(uint8_t* out, size_t room) {
        size_t size = 0;
        while (size < room && out_size_) {
            out[size++] = out_[out_start_];
            out_start_ = (out_start_ + 1) % sizeof(out_);
            out_size_--;
        }
        return size;
    }

    // Every 10 ms: pulses go on.
    void tick() {
        for (uint8_t b = 0; b < kBoards; b++)
            for (uint8_t i = 0; i < kChannels; i++) boards[b].channels[i].tick();
    }

    // Now and then: outputs off after too long a silence. True if it switched them off.
    bool watch(uint32_t now_ms) {
        if (!watchdog_ || !any() || static_cast<uint32_t>(now_ms - fed_) <= watchdog_) return false;
        for (uint8_t b = 0; b < kBoards; b++) {
            boards[b].off();
            boards[b].errors |= kTimeout;
        }
        return true;
    }

    // What the chip is told: counts of 4096 of the pulse, rounded; 0: off. period_us: of the pulses.
    uint16_t counts(uint8_t board, uint8_t channel, uint32_t period_us = 20000) const {
        if (board >= kBoards || channel >= kChannels || !period_us) return 0;
        uint32_t pulse = boards[board].channels[channel].position();
        uint32_t out = (pulse * 4096UL + 2 * period_us) / (4 * period_us);
        return static_cast<uint16_t>(out > 4095 ? 4095 : out);
    }

    uint16_t watchdog() const { return watchdog_; }

  private:
    // AA, device, command, number, first, 2 each, CRC
    uint8_t frame_[5 + 2 * kChannels + 1];
    uint8_t length_ = 0;
    bool skipping_ = false;
    bool crc_;
    uint16_t watchdog_;
    uint32_t fed_ = 0;
    uint8_t out_[64];
    uint8_t out_start_ = 0, out_size_ = 0;

    bool pololu() const { return frame_[0] == kPololu; }
    uint8_t head() const { return pololu() ? 3 : 1; }
    uint8_t command() const { return pololu() ? frame_[2] | 0x80 : frame_[0]; }

    bool addressed() const {
        return frame_[1] == kController || (frame_[1] >= kFirstDevice && frame_[1] < kFirstDevice + kBoards);
    }

    bool controller() const { return pololu() && frame_[1] == kController; }
    Board& board() { return boards[pololu() ? frame_[1] - kFirstDevice : 0]; }

    // Length of the command that has begun; -1: there is no such command.
    int16_t needed() const {
        int16_t data;
        uint8_t at = head();
        switch (command()) {
            case kSetTarget:
            case kSetSpeed:
            case kSetAcceleration: data = 3; break;
            case kGetPosition: data = 1; break;
            case kGetMovingState:
            case kGetErrors:
            case kGoHome: data = 0; break;
            case kSetMultipleTargets:
                data = 2;
                if (length_ > at) {
                    if (frame_[at] == 0 || frame_[at] > kChannels) return -1;
                    data = 2 + 2 * frame_[at];
                }
                break;
            case kGetIdentity: data = controller() ? 0 : -1; break;
            case kSetWatchdog: data = controller() ? 2 : -1; break;
            default: data = -1;
        }
        if (data < 0) return -1;
        if (controller() && command() != kGetIdentity && command() != kSetWatchdog) return -1;
        return at + data + (crc_ ? 1 : 0);
    }

    void complain(uint16_t error) {
        if (frame_[0] != kPololu) {
            boards[0].errors |= error;
        } else if (length_ >= 2 && !controller()) {
            board().errors |= error;
        } else {  // nobody knows for whom it was
            for (uint8_t b = 0; b < kBoards; b++) boards[b].errors |= error;
        }
    }

    void drop(uint16_t error) {
        complain(error);
        length_ = 0;
        skipping_ = true;
    }

    bool any() const {
        for (uint8_t b = 0; b < kBoards; b++)
            for (uint8_t i = 0; i < kChannels; i++)
                if (boards[b].channels[i].target) return true;
        return false;
    }

    void say(const uint8_t* data, uint8_t size) {
        if (size > sizeof(out_) - out_size_) {  // an answer in part would be taken for another one
            complain(kBufferFull);
            return;
        }
        for (uint8_t i = 0; i < size; i++) out_[(out_start_ + out_size_++) % sizeof(out_)] = data[i];
    }

    void say_two(uint16_t number) {
        const uint8_t data[2] = {static_cast<uint8_t>(number & 0xFF), static_cast<uint8_t>(number >> 8)};
        say(data, 2);
    }

    void obey(uint32_t now_ms) {
        if (crc_ && crc7(frame_, length_ - 1u) != frame_[length_ - 1]) {
            complain(kCrcError);
            return;
        }
        fed_ = now_ms;
        const uint8_t* data = frame_ + head();
        if (controller()) {
            if (command() == kGetIdentity) {
                uint8_t who[8] = {'F', 'T', kMajor, kMinor, kBoards, kChannels, static_cast<uint8_t>(crc_), 0};
                who[7] = crc7(who, 7);
                say(who, 8);
            } else {
                watchdog_ = static_cast<uint16_t>(data[0] | data[1] << 7);
            }
            return;
        }
        Board& b = board();
        switch (command()) {
            case kGetErrors:
                say_two(b.errors);
                b.errors = 0;
                return;
            case kGetMovingState: {
                uint8_t moving = 0;
                for (uint8_t i = 0; i < kChannels; i++) moving |= b.channels[i].moving();
                say(&moving, 1);
                return;
            }
            case kGoHome: b.off(); return;
            case kSetMultipleTargets:
                if (data[1] + data[0] > kChannels) {
                    complain(kProtocolError);
                    return;
                }
                for (uint8_t i = 0; i < data[0]; i++)
                    b.channels[data[1] + i].aim(static_cast<uint16_t>(data[2 + 2 * i] | data[3 + 2 * i] << 7));
                return;
            default: break;
        }
        if (data[0] >= kChannels) {
            complain(kProtocolError);
            return;
        }
        Channel& channel = b.channels[data[0]];
        uint16_t number = static_cast<uint16_t>(command() == kGetPosition ? 0 : data[1] | data[2] << 7);
        switch (command()) {
            case kSetTarget: channel.aim(number); break;
            case kSetSpeed: channel.speed = number; break;
            case kSetAcceleration:
                if (number > 255) complain(kProtocolError);
                else channel.acceleration = static_cast<uint8_t>(number);
                break;
            case kGetPosition: say_two(channel.position()); break;
            default: break;
        }
    }
};

}  // namespace facetwin

#endif
