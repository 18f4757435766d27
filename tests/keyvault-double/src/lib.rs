//! A double of Azure Key Vault and of the token endpoint before it, for tests. It is not Key Vault: it speaks the part of
//! the protocol that the operator uses, and Azure's own clients work with it unchanged.
