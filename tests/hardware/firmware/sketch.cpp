// The whole sketch on this machine: what it needs of the Arduino core, and two PCA9685 as far as it uses them.

#include <stddef.h>
#include <stdint.h>

#include <deque>
#include <map>
#include <vector>

#define OUTPUT 1
#define HIGH 1
#define LOW 0

static uint32_t now_ms = 0;
static uint32_t millis() { return now_ms; }
static void delayMicroseconds(unsigned) {}
static int oe_level = -1;
static void pinMode(int, int) {}
static void digitalWrite(int, int level) { oe_level = level; }

struct FakeSerial {
    std::deque<uint8_t> in, out;
    void begin(unsigned long) {}
    int available() { return static_cast<int>(in.size()); }
    int read() {
        int byte = in.front();
        in.pop_front();
        return byte;
    }
    void write(const uint8_t* data, size_t size) { out.insert(out.end(), data, data + size); }
} Serial;

// Registers of a PCA9685 (data sheet, table 4); MODE1 bit 5 makes the address count up, bit 4 is sleep.
struct FakeChip {
    uint8_t registers[256] = {0x11, 0x04};
    bool there = true;
    bool prescale_awake = false;  // set while it ran: the real chip ignores that
};

struct FakeWire {
    std::map<uint8_t, FakeChip> chips;
    uint8_t address = 0;
    std::vector<uint8_t> bytes;
    size_t longest = 0;
    unsigned long transfers = 0;
    void begin() {}
    void setClock(unsigned long) {}
    uint8_t requestFrom(uint8_t from, uint8_t size) {  // register named before, one byte
        auto found = chips.find(from);
        return found == chips.end() || !found->second.there ? 0 : size;
    }
    int read() { return chips[address].registers[bytes[0]]; }
    void beginTransmission(uint8_t to) {
        address = to;
        bytes.clear();
    }
    void write(uint8_t byte) { bytes.push_back(byte); }
    int endTransmission() {
        transfers++;
        if (bytes.size() > longest) longest = bytes.size();
        auto found = chips.find(address);
        if (found == chips.end() || !found->second.there) return 2;  // no acknowledgement
        FakeChip& chip = found->second;
        uint8_t at = bytes[0];
        for (size_t i = 1; i < bytes.size(); i++) {
            if (at == 0xFE && !(chip.registers[0] & 0x10)) chip.prescale_awake = true;
            else chip.registers[at] = bytes[i];
            if (at == 0xFD)  // all channels at once
                for (int c = 0; c < 16; c++) chip.registers[0x06 + 4 * c + 3] = bytes[i];
            if (chip.registers[0] & 0x20) at++;
        }
        return 0;
    }
} Wire;

#define Wire_h
#include "pca9685.ino"

extern "C" {
void sketch_chip(int address, int there) {
    bool known = Wire.chips.count(static_cast<uint8_t>(address)) != 0;
    FakeChip& chip = Wire.chips[static_cast<uint8_t>(address)];
    if (there && (!known || !chip.there)) chip = FakeChip();  // power comes back: registers as after reset
    chip.there = there != 0;
}
void sketch_setup() { setup(); }
void sketch_run(int ms) {
    for (int i = 0; i < ms; i++) {
        now_ms++;
        loop();
    }
}
void sketch_receive(const uint8_t* data, size_t size) { Serial.in.insert(Serial.in.end(), data, data + size); }
size_t sketch_answer(uint8_t* out, size_t room) {
    size_t size = 0;
    for (; size < room && !Serial.out.empty(); size++) {
        out[size] = Serial.out.front();
        Serial.out.pop_front();
    }
    return size;
}
int sketch_register(int address, int reg) { return Wire.chips[static_cast<uint8_t>(address)].registers[reg]; }
int sketch_longest() { return static_cast<int>(Wire.longest); }
int sketch_wrong_prescale(int address) { return Wire.chips[static_cast<uint8_t>(address)].prescale_awake; }
unsigned long sketch_transfers() { return Wire.transfers; }
}
