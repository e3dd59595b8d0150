// Package eventlog replays a measured boot's event log and says what it proves.
//
// A log is the host's and the firmware's word. It becomes evidence only because the events in it
// lead, extend by extend, to register values that a TPM quote or a TDX quote already proved: the
// registers are compared first, and only then is any event judged. [Verify] therefore guarantees
// that what it claims was measured into one of the registers in the claims' list. Of an event's
// content it believes what the digest covers, and nothing else: a label beside the digest of a
// file is the host's text. Events of registers that the caller did not verify prove nothing and
// yield nothing.
//
// It refuses logs whose replay ends elsewhere, unknown event types and algorithms, event data
// that its digest should cover and does not, events after a register's separator that firmware
// does not measure there (whoever controls the booted system can append such), a second
// separator or Secure Boot variable, and everything above its limits. Signature lists in the
// databases of Secure Boot are not parsed; no claim rests on them.
//
// The order of events is measured within a register only. What a running system appends to a PCR
// that it may extend, such as another program in PCR 4, cannot be told from what its firmware
// measured there: whoever decides by a TPM's claims asks for whole registers, or for all of the
// programs in them. RTMR1 holds the firmware's farewell itself, and nothing is accepted behind it.
//
// Two formats: a TPM's log in the crypto-agile form, and the log of a confidential guest (CCEL),
// whose index 0 is MRTD, into which no event goes, and whose indices 1 to 4 are RTMR0 to RTMR3.
// The appraisers of TPM and TDX quotes call it.
//
// Formats: TCG PC Client Platform Firmware Profile Specification 1.06, sections 3.3 and 10; UEFI
// Specification 2.10, section 38 (confidential computing); Intel TDX Virtual Firmware Design
// Guide, section 8.
package eventlog
