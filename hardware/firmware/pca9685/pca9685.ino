// Two PCA9685 servo chips that speak Maestro bytes: for the Arduino core, any board with a serial port and I2C.
//
// Wiring: SDA and SCL to both chips, addresses 0x41 and 0x42 (solder jumpers), servo power apart from the
// board's. The serial port is the USB one; SERIAL_PORT says otherwise. Open this folder in the Arduino IDE
// and upload; nothing needs to be installed. What it says and does is in facetwin_protocol.h.
// A hang of this program is a servo that keeps its last pulse: where that matters, wire the chips' OE pins to
// OE_PIN and switch the board's own watchdog on.

#include <Wire.h>

#include "facetwin_protocol.h"

#ifndef SERIAL_PORT
#define SERIAL_PORT Serial
#endif
#ifndef SERIAL_BAUD
#define SERIAL_BAUD 115200
#endif
#ifndef FACETWIN_CRC
#define FACETWIN_CRC 0  // 1: every command ends with CRC-7 (crc=true in the rig's name)
#endif
#ifndef OSCILLATOR_HZ
#define OSCILLATOR_HZ 25000000UL  // of the chips; measure the pulses and correct it, they differ by percents
#endif
#ifndef OE_PIN
#define OE_PIN -1  // output enable of both chips, active low; -1: not wired
#endif

static const uint8_t kAddresses[] = {0x41, 0x42};
static const uint8_t kBoards = sizeof(kAddresses);
static const uint32_t kRate = 50;  // Hz
static const uint8_t kPrescale = (OSCILLATOR_HZ + 2048UL * kRate) / (4096UL * kRate) - 1;
// as it really is: the prescaler is a whole number
static const uint32_t kPeriodUs = 4096ULL * 1000000ULL * (kPrescale + 1) / OSCILLATOR_HZ;

// registers (PCA9685 data sheet, table 4)
static const uint8_t kMode1 = 0x00, kMode2 = 0x01, kLed0 = 0x06, kAllLedOffHigh = 0xFD, kPrescaleRegister = 0xFE;
static const uint8_t kSleep = 0x10, kAutoIncrement = 0x20, kRestart = 0x80, kTotemPole = 0x04, kFullOff = 0x10;

static facetwin::Protocol<kBoards> protocol(FACETWIN_CRC);
static uint16_t told[kBoards][facetwin::kChannels];  // counts that the chips have
static uint32_t last_tick, last_update;

static bool put(uint8_t address, uint8_t reg, uint8_t value) {
    Wire.beginTransmission(address);
    Wire.write(reg);
    Wire.write(value);
    return Wire.endTransmission() == 0;
}

static bool start_chip(uint8_t address) {
    bool well = put(address, kAllLedOffHigh, kFullOff);  // nothing moves
    well &= put(address, kMode1, kSleep);                // the prescaler can be set asleep only
    well &= put(address, kPrescaleRegister, kPrescale);
    well &= put(address, kMode2, kTotemPole);
    well &= put(address, kMode1, kAutoIncrement);
    delayMicroseconds(500);
    well &= put(address, kMode1, kAutoIncrement | kRestart);
    return well;
}

// Whether it is there and as it was set up: after a dip of its supply it is asleep again.
static bool chip_ready(uint8_t address) {
    Wire.beginTransmission(address);
    Wire.write(kMode1);
    if (Wire.endTransmission() != 0 || Wire.requestFrom(address, static_cast<uint8_t>(1)) != 1) return false;
    return (Wire.read() & (kSleep | kAutoIncrement)) == kAutoIncrement;
}

// Counts of channels first..first+n-1, at most 7: the I2C buffer of small boards is 32 bytes.
static bool put_counts(uint8_t board, uint8_t first, uint8_t n, const uint16_t* counts) {
    Wire.beginTransmission(kAddresses[board]);
    Wire.write(kLed0 + 4 * first);
    for (uint8_t i = 0; i < n; i++) {
        uint16_t off = counts[i];
        Wire.write(0);  // the pulse begins with the period
        Wire.write(0);
        Wire.write(off & 0xFF);
        Wire.write(off ? off >> 8 : kFullOff);
    }
    return Wire.endTransmission() == 0;
}

static void update_chips() {
    for (uint8_t b = 0; b < kBoards; b++) {
        bool well = chip_ready(kAddresses[b]);
        for (uint8_t first = 0; well && first < facetwin::kChannels; first += 7) {
            uint8_t n = facetwin::kChannels - first < 7 ? facetwin::kChannels - first : 7;
            uint16_t counts[7];
            bool changed = false;
            for (uint8_t i = 0; i < n; i++) {
                counts[i] = protocol.counts(b, first + i, kPeriodUs);
                changed |= counts[i] != told[b][first + i];
            }
            if (!changed) continue;
            well = put_counts(b, first, n, counts);
            for (uint8_t i = 0; well && i < n; i++) told[b][first + i] = counts[i];
        }
        if (!well) {
            protocol.boards[b].errors |= facetwin::kChipSilent;
            for (uint8_t i = 0; i < facetwin::kChannels; i++) told[b][i] = 0xFFFF;
            start_chip(kAddresses[b]);
        }
    }
}

void setup() {
    if (OE_PIN >= 0) {
        pinMode(OE_PIN, OUTPUT);
        digitalWrite(OE_PIN, HIGH);
    }
    SERIAL_PORT.begin(SERIAL_BAUD);
    Wire.begin();
    Wire.setClock(400000);
    for (uint8_t b = 0; b < kBoards; b++)
        if (!start_chip(kAddresses[b])) protocol.boards[b].errors |= facetwin::kChipSilent;
    if (OE_PIN >= 0) digitalWrite(OE_PIN, LOW);
    last_tick = last_update = millis();
}

void loop() {
    uint32_t now = millis();
    for (uint8_t i = 0; i < 32 && SERIAL_PORT.available(); i++) protocol.receive(SERIAL_PORT.read(), now);
    uint8_t out[16];
    size_t size = protocol.answer(out, sizeof(out));
    if (size) SERIAL_PORT.write(out, size);
    protocol.watch(now);
    while (static_cast<uint32_t>(now - last_tick) >= 10) {
        last_tick += 10;
        protocol.tick();
    }
    if (static_cast<uint32_t>(now - last_update) >= 1000 / kRate) {  // chips cannot follow faster
        last_update = now;
        update_chips();
    }
}
