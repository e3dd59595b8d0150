// Package snp computes the launch digest that a guest of AMD SEV-SNP will have in its reports, from its
// firmware, its virtual processors and, where the firmware checks them, the kernel's hashes.
//
// The digest is a chain: each page that the hypervisor adds before the guest runs extends it by the page's
// kind, address and contents (AMD 56860, SNP_LAUNCH_UPDATE and PAGE_INFO). The pages are the firmware's own,
// those that its metadata ask for, and one save area (VMSA) for each virtual processor, whose initial registers
// depend on the hypervisor. Everything that differs between hypervisors is in [VMM]; a new one starts as
// unknown and is refused.
//
// There is no SEV-SNP hardware in this project's tests. They compare with public vectors and with the
// program sev-snp-measure of the virtee project over every model, hypervisor and set of features.
package snp
