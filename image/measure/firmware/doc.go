// Package firmware reads what a UEFI firmware image for virtual machines (OVMF, TDVF) says about its own
// launch: where it lies in memory, which pages the hypervisor adds before the first instruction, and where
// other processors begin.
//
// Such an image ends in a table of entries that are named by GUIDs. [Parse] follows the entries that decide
// a launch measurement, under named limits, and refuses an image whose table contradicts itself. Every section
// that [Image.SEV] and [Image.TDX] return is aligned to pages, its data lie inside the image, and the sections
// together are no larger than [MaxSectionBytes]. It trusts nothing; whether anybody
// should run the firmware is not its question.
//
// Formats: edk2, OvmfPkg/ResetVector (the table and its SEV entries); Intel TDX Virtual Firmware Design
// Guide, section 11 (TDVF metadata).
package firmware
